// Session and window ids: one session for all tabs, one window id for each.
import { claim } from "./database.ts";
import type { Agreement } from "./identity.ts";
import type { KeyValue } from "./key-value.ts";
import { native } from "./native.ts";
import { uuidv7 } from "./uuid.ts";

export interface Session {
  /** The session and window that something happening now belongs to; starts a new session when it is time. */
  touch(): { sessionId: string; windowId: string };
  /** The next touch starts a new session. */
  end(): void;
  /** The page closes, and may come back: a tab keeps its window id over page loads. */
  keep(): void;
  resume(): void;
}

interface Held {
  id: string;
  startedMs: number;
  lastMs: number;
}

const SESSION = "millrace.session";
const WINDOW = "millrace.window";
const AGE_MS_MAX = 24 * 3600_000;
const WRITE_MS = 1000;

/** The session is shared by the tabs of an origin, the window id is each tab's own. */
export function createSession(
  store: KeyValue,
  agreement: Agreement,
  { timeoutMs, isKept }: { timeoutMs: number; isKept: boolean },
): Session {
  const storage = isKept ? native.sessionStorage : undefined;
  let windowId = takeWindowId() ?? uuidv7();
  /** Not in storage yet: a tab that reads it there would take it for settled, and it may lose. */
  let provisional: Held | undefined;

  /** Taken out while the page lives: a tab that is duplicated copies its storage, and must not share the id. */
  function takeWindowId(): string | undefined {
    const found = storage?.getItem(WINDOW) ?? undefined;
    storage?.removeItem(WINDOW);
    return found;
  }

  function start(now: number, after: string): string {
    const id = uuidv7();
    windowId = uuidv7();
    const { database } = agreement;
    if (!database) {
      write({ id, startedMs: now, lastMs: now });
      return id;
    }
    provisional = { id, startedMs: now, lastMs: now };
    const settled = claim(database, { name: "session", after, candidate: id }).then((winner) => {
      if (winner !== id) agreement.replace(id, winner);
      const current = read();
      if (current?.id !== id) return;
      provisional = undefined;
      write({ ...current, id: winner });
    });
    agreement.waitFor(settled);
    return id;
  }

  function read(): Held | undefined {
    if (provisional) return provisional;
    const [id = "", started, last] = (store.get(SESSION) ?? "").split(" ");
    const [startedMs, lastMs] = [Number(started), Number(last)];
    return id !== "" && startedMs >= 0 && lastMs >= 0 ? { id, startedMs, lastMs } : undefined;
  }

  function write(held: Held): void {
    if (provisional) provisional = held;
    else store.set(SESSION, `${held.id} ${held.startedMs} ${held.lastMs}`);
  }

  return {
    touch() {
      const now = native.nowMs();
      const held = read();
      // The distance and not the difference: a clock set back must not keep a session alive.
      const isOver = !held || Math.abs(now - held.lastMs) > timeoutMs || Math.abs(now - held.startedMs) > AGE_MS_MAX;
      const sessionId = isOver ? start(now, held?.id ?? "") : held.id;
      if (!isOver && Math.abs(now - held.lastMs) > Math.min(WRITE_MS, timeoutMs / 10)) {
        write({ ...held, lastMs: now });
      }
      return { sessionId, windowId };
    },
    end() {
      const held = read();
      if (held) write({ ...held, startedMs: 0, lastMs: 0 });
    },
    keep() {
      const held = provisional;
      provisional = undefined;
      if (held) write(held);
      try {
        storage?.setItem(WINDOW, windowId);
      } catch {
        // Full: the next page of this tab counts as another window.
      }
    },
    resume() {
      takeWindowId();
    },
  };
}
