// Whether events that are durable are stored: the consumers' group commits an offset when every record below it is a row, or
// a line in log_outcomes that says why it is none. The log alone is asked, so a gateway needs no way to ClickHouse.
import { setTimeout as wait } from "node:timers/promises";
import type { Commit, Position } from "#lib/eventlog/log.ts";

export interface StoredWatchOptions {
  /** Of the group that stores events, by partition. */
  committed(): Promise<ReadonlyMap<number, Commit>>;
  intervalMs: number;
  /** How long a caller waits. */
  maxMs: number;
  /** Callers at a time; one more hears at once that it is not known. */
  maxWaiting: number;
  signal: AbortSignal;
}

export interface StoredWatch {
  /** True when all up to these positions are stored; false when that is not known in time. Never rejects. */
  untilStored(last: readonly Position[]): Promise<boolean>;
}

interface Waiting {
  last: readonly Position[];
  end(isStored: boolean): void;
}

/** However many callers wait, the log is asked once an interval, and not at all when nobody does. */
export function createStoredWatch(options: StoredWatchOptions): StoredWatch {
  const waiting = new Set<Waiting>();
  let isAsking = false;
  options.signal.addEventListener("abort", () => {
    for (const each of waiting) each.end(false);
  });

  async function ask(): Promise<void> {
    isAsking = true;
    while (waiting.size > 0) {
      // A log that does not answer is asked again; the callers' time goes on meanwhile.
      const commits = await options.committed().catch(() => undefined);
      for (const { last, end } of waiting) {
        if (last.every(({ partition, offset }) => (commits?.get(partition)?.offset ?? 0) > offset)) end(true);
      }
      if (waiting.size > 0) await wait(options.intervalMs, undefined, { ref: false });
    }
    isAsking = false;
  }

  return {
    untilStored(last) {
      if (last.length === 0) return Promise.resolve(true);
      if (waiting.size >= options.maxWaiting || options.signal.aborted) return Promise.resolve(false);
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const each: Waiting = {
        last,
        end(isStored) {
          clearTimeout(timer);
          waiting.delete(each);
          resolve(isStored);
        },
      };
      const timer = setTimeout(() => each.end(false), options.maxMs);
      waiting.add(each);
      if (!isAsking) void ask();
      return promise;
    },
  };
}

/** The last position in each partition. */
export function lastOf(positions: readonly Position[]): Position[] {
  const last = new Map<number, number>();
  for (const { partition, offset } of positions) last.set(partition, Math.max(offset, last.get(partition) ?? -1));
  return [...last].map(([partition, offset]) => ({ partition, offset })).sort((a, b) => a.partition - b.partition);
}
