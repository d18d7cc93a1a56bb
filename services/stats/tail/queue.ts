// What one tail is to be shown next: bounded a second and in what waits, with everything passed over counted.

import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { TailState } from "../live/log-tail.ts";
import { matchesTail, type TailFilter } from "./filter.ts";

/** An event of the log, decoded once for all tails. */
export interface LoggedEvent {
  partition: number;
  stored: StoredRecord;
  record: EventRecord;
}

export interface QueueStatus {
  state: TailState;
  reason: string;
  shown: number;
  passedOver: number;
  skipped: number;
  resets: number;
}

export interface TailDelivery {
  status?: QueueStatus;
  events: LoggedEvent[];
  /** By partition. */
  progress: [partition: number, next: number][];
}

export interface TailQueue {
  readonly filter: TailFilter;
  offer(events: readonly LoggedEvent[]): void;
  setState(state: TailState, reason: string): void;
  countSkipped(records: number): void;
  countReset(): void;
  setProgress(partition: number, next: number): void;
  /** Makes the next delivery come now, if only as a sign of life. */
  beat(): void;
  /** Ends it; `next` then resolves with undefined, or rejects with the error. */
  end(error?: unknown): void;
  /** Waits until there is something to tell. */
  next(): Promise<TailDelivery | undefined>;
  /** Since when something waits that is not taken, on performance.now()'s clock. */
  readonly waitingSince: number | undefined;
}

const WAITING_MAX = 2_000;
const WAITING_BYTES_MAX = 4 * 1024 * 1024;
const DELIVERY_MAX = 100;
const SECOND_MS = 1000;

export function createTailQueue(filter: TailFilter, state: TailState, reason: string): TailQueue {
  const status: QueueStatus = { state, reason, shown: 0, passedOver: 0, skipped: 0, resets: 0 };
  let waiting: LoggedEvent[] = [];
  let waitingBytes = 0;
  let progress = new Map<number, number>();
  let statusDue = true;
  let waitingSince: number | undefined = performance.now();
  let window = { begun: performance.now(), taken: 0 };
  let wake: (() => void) | undefined;
  let ended: { error: unknown } | undefined;

  function ready(): void {
    waitingSince ??= performance.now();
    wake?.();
    wake = undefined;
  }

  /** The first so many of each second: what is too much is not held back until it is old. */
  function hasRoom(): boolean {
    const now = performance.now();
    if (now - window.begun >= SECOND_MS) window = { begun: now, taken: 0 };
    if (window.taken >= filter.eventsPerSecond || waiting.length >= WAITING_MAX || waitingBytes >= WAITING_BYTES_MAX)
      return false;
    window.taken++;
    return true;
  }

  function tellStatus(): void {
    statusDue = true;
    ready();
  }

  return {
    filter,
    get waitingSince() {
      return waitingSince;
    },
    offer(events) {
      let passedOver = 0;
      let taken = 0;
      for (const event of events) {
        if (!matchesTail(filter, event.record)) continue;
        if (!hasRoom()) {
          passedOver++;
          continue;
        }
        waiting.push(event);
        waitingBytes += event.stored.value.length;
        taken++;
      }
      if (passedOver > 0) {
        status.passedOver += passedOver;
        statusDue = true;
      }
      if (taken + passedOver > 0) ready();
    },
    setState(next, why) {
      Object.assign(status, { state: next, reason: why });
      tellStatus();
    },
    countSkipped(records) {
      status.skipped += records;
      tellStatus();
    },
    countReset() {
      status.resets++;
      tellStatus();
    },
    setProgress(partition, next) {
      progress.set(partition, next);
      ready();
    },
    beat: tellStatus,
    end(error) {
      ended ??= { error };
      ready();
    },
    async next() {
      while (!ended && !statusDue && waiting.length === 0 && progress.size === 0) {
        waitingSince = undefined;
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        await promise;
      }
      if (ended) {
        if (ended.error !== undefined) throw ended.error;
        return undefined;
      }
      const events = waiting.slice(0, DELIVERY_MAX);
      waiting = waiting.slice(DELIVERY_MAX);
      waitingBytes -= events.reduce((sum, { stored }) => sum + stored.value.length, 0);
      status.shown += events.length;
      const delivery: TailDelivery = { events, progress: [...progress], ...(statusDue && { status: { ...status } }) };
      progress = new Map();
      statusDue = false;
      waitingSince = waiting.length > 0 ? performance.now() : undefined;
      return delivery;
    },
  };
}
