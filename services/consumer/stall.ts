// The watchdog of one partition's way from the log. Membership of a group, heartbeats and fetching can each look well
// while no record comes; what is looked at here is only whether the partition gets what the log says it has.
import type { Assignment } from "#lib/eventlog/log.ts";
import type { Clock } from "#lib/process/clock.ts";

/** The adapter repairs by itself what it knows of in less (lib/eventlog/kafka/consumer.ts: 20 s). */
const STALL_MS = 30_000;
const INTERVAL_MS = 2000;
/** A reader that got nothing asks again within half a second (batch.ts), unless it has something else to do. */
const READS_AGAIN_MS = 5000;

export interface StallOptions {
  clock: Clock;
  /** Called once; `what` says what was waited for. */
  onStall(what: string): void;
}

export interface WatchedAssignment extends Disposable {
  /** The same partition. A read ends with its loss, whatever the adapter makes of that. */
  readonly assignment: Assignment;
}

/**
 * Reports a partition that has had records to read for 30 seconds and got none, or a commit that has had no answer for as
 * long. Waiting for ClickHouse is neither. Disposing ends the watch.
 */
export function watchStalls(inner: Assignment, { clock, onStall }: StallOptions): WatchedAssignment {
  /** The read that brought nothing so far, or brings nothing now. Its reader may have gone to work, hence the time. */
  let reading: { from: number; endedAtMs: number | undefined } | undefined;
  /** End of the log as last heard of; lag.ts asks every other second. */
  let end = 0;
  let starved: { from: number; sinceMs: number } | undefined;
  let committingSinceMs: number | undefined;

  function fault(): string | undefined {
    const now = clock.monotonicMs();
    if (committingSinceMs !== undefined && now - committingSinceMs > STALL_MS) return "a commit has no answer";
    if (reading === undefined || reading.from >= end) {
      starved = undefined;
      return undefined;
    }
    if (starved?.from !== reading.from) starved = { from: reading.from, sinceMs: now };
    const isReading = reading.endedAtMs === undefined || now - reading.endedAtMs < READS_AGAIN_MS;
    if (!isReading || now - starved.sinceMs <= STALL_MS) return undefined;
    return `the log ends at offset ${end} and sends nothing from ${reading.from} on`;
  }

  const timer = setInterval(() => {
    const what = fault();
    if (what === undefined || inner.lost.aborted) return;
    clearInterval(timer);
    onStall(`${what} for ${STALL_MS / 1000} s`);
  }, INTERVAL_MS);

  return {
    assignment: {
      ...inner,
      async read(options) {
        reading = { from: options.from, endedAtMs: undefined };
        const records = await untilLost(inner.read(options), inner.lost);
        if (records.length > 0) reading = undefined;
        else reading.endedAtMs = clock.monotonicMs();
        return records;
      },
      async commit(commit) {
        // Every store begins and ends with a commit: what was read is at work, and no more is wanted until it is stored.
        reading = undefined;
        starved = undefined;
        committingSinceMs = clock.monotonicMs();
        try {
          await inner.commit(commit);
        } finally {
          committingSinceMs = undefined;
        }
      },
      async bounds() {
        const bounds = await inner.bounds();
        end = bounds.end;
        return bounds;
      },
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function untilLost<T>(work: Promise<T>, lost: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onLost = () => reject(lost.reason);
    if (lost.aborted) onLost();
    lost.addEventListener("abort", onLost, { once: true });
    work.then(resolve, reject).finally(() => lost.removeEventListener("abort", onLost));
  });
}
