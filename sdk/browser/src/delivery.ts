// From capture to the server's answer. An event leaves this page's memory, and the device, only when it was answered for.
import { createBackoff } from "./backoff.ts";
import { createHandOver } from "./hand-over.ts";
import { isOffline, native } from "./native.ts";
import { oneAtATime } from "./one-at-a-time.ts";
import { Pending } from "./pending.ts";
import type { QueueStore, Row } from "./queue-store.ts";
import type { Sender } from "./sender.ts";
import type { AnalyticsEvent, Counters, TransportName } from "./types.ts";

const BATCH_EVENTS_MAX = 250;
const BATCH_CHARS_MAX = 1_000_000;
const SAVE_AGAIN_MS = 10_000;

export interface DeliveryOptions {
  sender: Sender;
  store: QueueStore;
  /** Undefined where there is nothing that tabs share. */
  lock: { name: string; storage: Storage | undefined } | undefined;
  flushAt: number;
  flushIntervalMs: number;
  maxQueueSize: number;
  counters: Counters;
}

export interface Delivery {
  /** `isOwnTime`: the timestamp was read from the clock, and not given by the caller. */
  add(event: AnalyticsEvent, json: string, isOwnTime: boolean): void;
  /** Resolves when everything captured before is answered for. Rejects when it is not; it then stays queued. */
  flush(): Promise<void>;
  /** For a page that may be gone in a moment. What cannot be sent by then is stored. */
  handOver(by: TransportName): void;
  /** A page that is hidden may be kept by the browser, to be shown again when the visitor goes back. */
  setHidden(isHidden: boolean): void;
  /** Nothing is stored or sent before this resolves. */
  waitFor(gate: Promise<void>): void;
  /** In events that wait. */
  replace(from: string, to: string): void;
  /** Sends what is queued, and what earlier pages left, with the next batch. */
  schedule(): void;
  /** Forgets that the server was away and tries again. */
  wake(): void;
  stop(): void;
}

export function createDelivery(options: DeliveryOptions): Delivery {
  const { counters, flushAt, lock, sender, store } = options;
  const pending = new Pending(options.maxQueueSize, counters);
  const backoff = createBackoff();
  const saver = createSaver(pending, store);
  const discarded = createDiscarder(store);
  let gates: Promise<unknown> = Promise.resolve();
  let running: Promise<void> = Promise.resolve();
  let waiting: Promise<void> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let hasStopped = false;
  let isHidden = false;

  const handOver = createHandOver({ pending, store, sender, onAnswer: answered, onNoAnswer: schedule });
  const deliver = createDeliver(sender, pending, answered);

  function schedule(): void {
    if (timer !== undefined || hasStopped) return;
    timer = native.setTimeout(
      () => {
        timer = undefined;
        if (isOffline()) schedule();
        else inBackground();
      },
      Math.max(options.flushIntervalMs, backoff.waitMs()),
    );
  }

  /** What fails is queued again and shows in the counters; there is nobody here to tell. */
  function inBackground(): void {
    flush().catch(() => undefined);
  }

  /** The event that fills a batch may be the page's last: a lock or a read under way would keep it from being kept. */
  function flushIfShown(): void {
    if (isHidden) schedule();
    else inBackground();
  }

  function flush(): Promise<void> {
    waiting ??= running.then(drain, drain);
    return waiting;
  }

  async function drain(): Promise<void> {
    running = waiting ?? running;
    waiting = undefined;
    await gates;
    try {
      while (await (lock ? oneAtATime(lock.name, lock.storage, sendNext) : sendNext()));
    } finally {
      if (pending.size > 0) schedule();
    }
  }

  /** False when nothing was left. */
  async function sendNext(): Promise<boolean> {
    const rows = await queued();
    if (rows.length === 0) return false;
    try {
      const refusal = await deliver(rows);
      backoff.clear();
      if (refusal) throw refusal.error;
    } catch (error) {
      if (!isVerdict(error)) backoff.failed(error);
      // With nothing of its own, this page still looks after what others left.
      schedule();
      throw error;
    }
    return true;
  }

  /** The next batch: of this page, of other tabs, and of pages that have closed. */
  async function queued(): Promise<Row[]> {
    const saved = pending.items().filter((item) => item.saved === "yes");
    // A database that fails to read has not lost this page's own events.
    const stored = await store.list(BATCH_EVENTS_MAX).catch(() => ({ rows: [], isComplete: false }));
    const rows = new Map(stored.rows.filter(({ uuid }) => !discarded.has(uuid)).map((row) => [row.uuid, row]));
    if (stored.isComplete) {
      // Saved, and there no longer: another tab has sent them.
      for (const { uuid } of saved) if (!rows.has(uuid)) pending.delete(uuid);
    }
    for (const item of pending.items()) rows.set(item.uuid, { uuid: item.uuid, json: item.jsonNow() });
    let chars = 0;
    const inOrder = [...rows.values()].sort((a, b) => (a.uuid < b.uuid ? -1 : 1)).slice(0, BATCH_EVENTS_MAX);
    return inOrder.filter(({ json }, i) => {
      chars += json.length;
      return i === 0 || chars <= BATCH_CHARS_MAX;
    });
  }

  async function answered(uuids: readonly string[], dropped: number): Promise<void> {
    counters.sent += uuids.length - dropped;
    counters.rejected += dropped;
    for (const uuid of uuids) pending.delete(uuid);
    // Rows that cannot be removed are sent again, and the server knows their ids.
    await store.remove(uuids).catch(() => undefined);
  }

  return {
    flush,
    handOver,
    schedule,
    add(event, json, isOwnTime) {
      discarded.add(pending.add(event, json, isOwnTime));
      saver.save(gates);
      if (pending.size >= flushAt && backoff.waitMs() === 0 && !isOffline()) native.queueMicrotask(flushIfShown);
      else schedule();
    },
    setHidden(hidden) {
      isHidden = hidden;
      saver.setHidden(hidden);
      if (!hidden) saver.save(gates);
    },
    waitFor(gate) {
      gates = Promise.all([gates, gate]);
    },
    replace: (from, to) => pending.replace(from, to),
    wake() {
      backoff.clear();
      inBackground();
    },
    stop() {
      hasStopped = true;
      native.clearTimeout(timer);
    },
  };
}

interface Saver {
  /** Stores what is not stored yet, all that one turn of the event loop captures at once. */
  save(gates: Promise<unknown>): void;
  /**
   * No browser keeps a page for which a database has still to answer. While it is hidden, what it captures goes where
   * writing is done at once, and to the database when the page is shown again.
   */
  setHidden(isHidden: boolean): void;
}

function createSaver(pending: Pending, store: QueueStore): Saver {
  let isSaving = false;
  let isHidden = false;
  let nextMs = 0;

  function save(gates: Promise<unknown>): void {
    if (isSaving || native.monotonicMs() < nextMs) return;
    isSaving = true;
    native.queueMicrotask(async () => {
      await gates;
      isSaving = false;
      const items = pending.items().filter(({ saved }) => saved === "no");
      if (items.length === 0) return;
      if (isHidden && store.stash(items)) {
        for (const item of items) item.saved = "stashed";
        return;
      }
      for (const item of items) item.saved = "saving";
      try {
        const evicted = await store.put(items);
        for (const item of items) item.saved = "yes";
        for (const uuid of evicted) pending.evicted(uuid);
      } catch {
        // No storage, or none left: they live as long as the page does, or until there is room.
        nextMs = native.monotonicMs() + SAVE_AGAIN_MS;
        for (const item of items) item.saved = "no";
      }
    });
  }

  return {
    save,
    setHidden(hidden) {
      isHidden = hidden;
      if (hidden) return;
      for (const item of pending.items()) if (item.saved === "stashed") item.saved = "no";
    },
  };
}

interface Discarder {
  add(uuids: readonly string[]): void;
  /** Whether its row may still be in the store. */
  has(uuid: string): boolean;
}

/** Removes from the store what made room in memory, all of one turn of the event loop at once. */
function createDiscarder(store: QueueStore): Discarder {
  const discarded = new Set<string>();
  let due: string[] = [];

  async function remove(): Promise<void> {
    const uuids = due;
    due = [];
    // What cannot be removed now makes room when the store is full itself.
    await store.remove(uuids).catch(() => undefined);
    for (const uuid of uuids) discarded.delete(uuid);
  }

  return {
    has: (uuid) => discarded.has(uuid),
    add(uuids) {
      if (uuids.length === 0) return;
      for (const uuid of uuids) discarded.add(uuid);
      if (due.length === 0) native.queueMicrotask(remove);
      due.push(...uuids);
    },
  };
}

/**
 * Sends a batch, in halves of halves while the server finds it too large or finds fault with it. Each part is answered
 * for on its own: what one of them meets does not touch the others. Resolves with the first refusal, if there was one.
 */
function createDeliver(
  sender: Sender,
  pending: Pending,
  answered: (uuids: readonly string[], dropped: number) => Promise<void>,
): (batch: readonly Row[]) => Promise<{ error: unknown } | undefined> {
  return async (batch) => {
    const parts = [batch];
    let refusal: { error: unknown } | undefined;
    for (let part = parts.shift(); part; part = parts.shift()) {
      const uuids = part.map(({ uuid }) => uuid);
      pending.markInFlight(uuids, true);
      try {
        await answered(uuids, await sender.send(part));
      } catch (error) {
        if (!isVerdict(error)) throw error;
        if (part.length > 1) {
          const half = Math.ceil(part.length / 2);
          parts.unshift(part.slice(0, half), part.slice(half));
        } else {
          refusal ??= { error };
          await answered(uuids, uuids.length);
        }
      } finally {
        pending.markInFlight(uuids, false);
      }
    }
    return refusal;
  };
}

function statusOf(error: unknown): number {
  const status = (error as { status?: unknown } | null | undefined)?.status;
  return typeof status === "number" ? status : 0;
}

/** These speak of the events. A wrong key, address, origin or method is put right in time, and the events are still there. */
const VERDICTS: readonly number[] = [400, 413, 422];

function isVerdict(error: unknown): boolean {
  return VERDICTS.includes(statusOf(error));
}
