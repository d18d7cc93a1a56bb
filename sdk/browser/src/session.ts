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

  /** Taken out while the page lives: a tab that is duplicated copies its storage, and must not share the id. */
  function takeWindowId(): string | undefined {
    const found = storage?.getItem(WINDOW) ?? undefined;
    storage?.removeItem(WINDOW);
    return found;
  }

  function start(now: number, after: string): string {
    const id = uuidv7();
    windowId = uuidv7();
    write(id, now, now);
    const { database } = agreement;
    if (!database) return id;
    const settled = claim(database, { name: "session", after, candidate: id }).then((winner) => {
      if (winner === id) return;
      agreement.replace(id, winner);
      const current = read();
      if (current?.id === id) write(winner, current.startedMs, current.lastMs);
    });
    agreement.waitFor(settled);
    return id;
  }

  function read() {
    const [id = "", started, last] = (store.get(SESSION) ?? "").split(" ");
    const [startedMs, lastMs] = [Number(started), Number(last)];
    return id !== "" && startedMs >= 0 && lastMs >= 0 ? { id, startedMs, lastMs } : undefined;
  }

  function write(id: string, startedMs: number, lastMs: number): void {
    store.set(SESSION, `${id} ${startedMs} ${lastMs}`);
  }

  return {
    touch() {
      const now = native.nowMs();
      const held = read();
      // The distance and not the difference: a clock set back must not keep a session alive.
      const isOver = !held || Math.abs(now - held.lastMs) > timeoutMs || Math.abs(now - held.startedMs) > AGE_MS_MAX;
      const sessionId = isOver ? start(now, held?.id ?? "") : held.id;
      if (!isOver && Math.abs(now - held.lastMs) > Math.min(WRITE_MS, timeoutMs / 10)) {
        write(sessionId, held.startedMs, now);
      }
      return { sessionId, windowId };
    },
    end() {
      const held = read();
      if (held) write(held.id, 0, 0);
    },
    keep() {
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
