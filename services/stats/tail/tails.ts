// Events for any number of tails out of one reading of the log, which runs while somebody watches.
import type { LogReader, StoredRecord } from "#lib/eventlog/log.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";
import { TooManyWatchersError } from "../live/live.ts";
import { type LogTail, startLogTail, type TailState } from "../live/log-tail.ts";
import { WatchEndedError } from "../live/watcher.ts";
import { STOPPING } from "../refusals.ts";
import type { TailFilter } from "./filter.ts";
import { createTailQueue, type LoggedEvent, type TailQueue } from "./queue.ts";

export interface Tails extends AsyncDisposable {
  /** Throws TooManyWatchersError, or WatchEndedError while the service stops. `hangUp` cuts a peer that takes nothing. */
  watch(filter: TailFilter, hangUp: () => void): Tail;
  /** Whether the consumer is beyond the place, as far as is known. */
  isStored(partition: number, offset: number): boolean;
}

export interface Tail {
  next: TailQueue["next"];
  /** Idempotent. */
  close(): void;
}

export interface TailsOptions {
  log: LogReader;
  logger: Logger;
  maxTails: number;
}

const HEARTBEAT_MS = 10_000;
const STALLED_MS = 60_000;
const PROGRESS_MS = 500;
const RECENT_BYTES_MAX = 2 * 1024 * 1024;
const RECENT_WAIT_MS = 500;

export function createTails({ log, logger, maxTails }: TailsOptions): Tails {
  const queues = new Map<TailQueue, () => void>();
  const progress = new Map<number, number>();
  const ending = new Set<Promise<unknown>>();
  let feed: { tail: LogTail; state: TailState; reason: string } | undefined;
  let timers: NodeJS.Timeout[] = [];
  let isAsking = false;
  let closed = false;

  function start(): void {
    const tail = startLogTail<LoggedEvent>({
      log,
      topic: EVENTS_TOPIC,
      decode: (partition, stored) => ({ partition, stored, record: decodeRecord(stored.value) }),
      hooks: {
        onPoints(events) {
          for (const queue of queues.keys()) queue.offer(events);
        },
        onState(state, reason) {
          if (feed) Object.assign(feed, { state, reason });
          for (const queue of queues.keys()) queue.setState(state, reason);
        },
        onSkipped(reason, records) {
          for (const queue of queues.keys()) {
            if (reason === "reset") queue.countReset();
            else queue.countSkipped(records);
          }
        },
        onFailed(error) {
          logger.error({ err: error }, "tails have failed");
          for (const queue of queues.keys()) queue.end(error);
        },
      },
    });
    feed = { tail, state: "connecting", reason: "" };
    timers = [setInterval(beat, HEARTBEAT_MS), setInterval(() => void askProgress(), PROGRESS_MS)];
    void askProgress();
  }

  function stopFeed(): void {
    const stopped = feed?.tail.stop();
    feed = undefined;
    progress.clear();
    for (const timer of timers) clearInterval(timer);
    if (!stopped) return;
    ending.add(stopped);
    void stopped.finally(() => ending.delete(stopped));
  }

  function beat(): void {
    const stalledBefore = performance.now() - STALLED_MS;
    for (const [queue, hangUp] of queues) {
      if ((queue.waitingSince ?? stalledBefore) >= stalledBefore) queue.beat();
      else {
        queue.end(new WatchEndedError("stalled", "the peer has taken nothing for a minute"));
        hangUp();
      }
    }
  }

  async function askProgress(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    try {
      for (const [partition, { offset }] of await log.committed(EVENTS_TOPIC, CONSUMER_GROUP)) {
        if (progress.get(partition) === offset) continue;
        progress.set(partition, offset);
        for (const queue of queues.keys()) queue.setProgress(partition, offset);
      }
    } catch {
      // The reading of the log meets the same, and tells it.
    } finally {
      isAsking = false;
    }
  }

  /** What is on the log already, newest last. */
  async function showRecent(queue: TailQueue): Promise<void> {
    const { recent } = queue.filter;
    if (recent === 0) return;
    const bounds = await log.bounds(EVENTS_TOPIC);
    const reads = bounds
      .filter(({ start, end }) => end > start)
      .map(async ({ partition, start, end }) => {
        const from = Math.max(start, end - recent);
        const limits = { maxRecords: end - from, maxBytes: RECENT_BYTES_MAX, maxWaitMs: RECENT_WAIT_MS };
        return decodeAll(partition, await log.tail(EVENTS_TOPIC, partition, { from, ...limits }));
      });
    const events = (await Promise.all(reads)).flat().sort((a, b) => a.stored.appendTimeMs - b.stored.appendTimeMs);
    queue.offer(events.slice(-recent));
  }

  return {
    isStored: (partition, offset) => offset < (progress.get(partition) ?? 0),
    watch(filter, hangUp) {
      if (closed) throw new WatchEndedError("stopping", STOPPING);
      if (queues.size >= maxTails) throw new TooManyWatchersError(`${maxTails} tails are served already`);
      if (!feed) start();
      const { state = "connecting", reason = "" } = feed ?? {};
      const queue = createTailQueue(filter, state, reason);
      queues.set(queue, hangUp);
      for (const [partition, next] of progress) queue.setProgress(partition, next);
      void showRecent(queue).catch((error: unknown) => logger.debug({ err: error }, "recent events not read"));
      return {
        next: () => queue.next(),
        close() {
          queue.end();
          if (queues.delete(queue) && queues.size === 0) stopFeed();
        },
      };
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      for (const queue of queues.keys()) queue.end(new WatchEndedError("stopping", STOPPING));
      queues.clear();
      stopFeed();
      await Promise.all(ending);
    },
  };
}

function decodeAll(partition: number, records: readonly StoredRecord[]): LoggedEvent[] {
  return records.flatMap((stored) => {
    try {
      return { partition, stored, record: decodeRecord(stored.value) };
    } catch {
      // The consumer makes a dead letter of it; here it has nothing to show.
      return [];
    }
  });
}
