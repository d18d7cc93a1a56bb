// Live values for any number of watchers out of one tail a topic, which runs while somebody watches what is on it.

import { Counter, Gauge, type Registry } from "prom-client";
import type { LogReader } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";
import { STOPPING } from "../refusals.ts";
import type { LiveFilter } from "./filter.ts";
import { type LogTail, startLogTail, type TailState } from "./log-tail.ts";
import { createEventPointDecoder, decodeRelayPoint, type LiveOrigin, type LivePoint } from "./point.ts";
import { createWatchQueue, WatchEndedError, type Watcher, type WatchQueue } from "./watcher.ts";

export interface LiveOptions {
  log: LogReader;
  /** Most watchers at once. */
  maxWatchers: number;
  registry: Registry;
  logger: Logger;
  /** How often a silent watcher gets a sign of life, milliseconds. Default 10 s. */
  heartbeatMs?: number;
}

export interface Live extends AsyncDisposable {
  /**
   * Shows what is appended from now on. `hangUp` is called when the peer is given up because it takes nothing. Throws
   * TooManyWatchersError, or WatchEndedError while the service stops.
   */
  watch(filter: LiveFilter, hangUp: () => void): Watcher;
  readonly watchers: number;
  /** Topics that are followed now. */
  readonly tails: number;
}

export class TooManyWatchersError extends Error {
  override readonly name = "TooManyWatchersError";
}

const HEARTBEAT_MS = 10_000;
/** What waits for one slow watcher. */
const QUEUE_POINTS_MAX = 2_000;
const QUEUE_BYTES_MAX = 1024 * 1024;
/** A peer that has taken nothing for this many heartbeats is given up, or its place would be lost for as long as it likes. */
const STALLED_HEARTBEATS = 6;

interface Feed {
  readonly topic: string;
  readonly watching: Set<WatchQueue>;
  tail: LogTail | undefined;
  state: TailState;
  reason: string;
}

export function createLive(options: LiveOptions): Live {
  const { log, maxWatchers, logger, heartbeatMs = HEARTBEAT_MS } = options;
  const feeds: Record<LiveOrigin, Feed> = { relay: createFeed(POINTS_TOPIC), event: createFeed(EVENTS_TOPIC) };
  const queues = new Set<WatchQueue>();
  const ending = new Set<Promise<void>>();
  let heartbeat: NodeJS.Timeout | undefined;
  let closed = false;
  const metrics = createLiveMetrics(options.registry, () => queues.size);

  function start(origin: LiveOrigin, feed: Feed): void {
    Object.assign(feed, { state: "connecting", reason: "" });
    const decode = origin === "relay" ? decodeRelayPoint : createEventPointDecoder();
    feed.tail = startLogTail({
      ...{ log, topic: feed.topic, decode },
      hooks: {
        onPoints(points: readonly LivePoint[]) {
          for (const queue of feed.watching) queue.offer(points);
        },
        onState(state, reason) {
          if (state === "interrupted") logger.warn({ topic: feed.topic, reason }, "live values are interrupted");
          else if (feed.state === "interrupted") logger.info({ topic: feed.topic }, "live values resume");
          Object.assign(feed, { state, reason });
          for (const queue of feed.watching) tellState(queue);
        },
        onSkipped(reason, records) {
          metrics.skipped.inc({ reason }, Math.max(1, records));
          for (const queue of feed.watching) {
            if (reason === "reset") queue.countReset();
            else queue.countSkipped(records);
          }
        },
        onFailed(error) {
          logger.error({ err: error, topic: feed.topic }, "live values have failed");
          for (const queue of feed.watching) queue.fail(error);
        },
      },
    });
  }

  function feedsOf({ filter }: WatchQueue): Feed[] {
    return [...filter.origins].map((origin) => feeds[origin]);
  }

  /** A watcher of two topics is live when both are. */
  function tellState(queue: WatchQueue): void {
    const { state, reason } = worstOf(feedsOf(queue));
    queue.setState(state, reason);
  }

  function leave(queue: WatchQueue): void {
    queues.delete(queue);
    for (const feed of feedsOf(queue)) {
      feed.watching.delete(queue);
      if (feed.watching.size > 0 || feed.tail === undefined) continue;
      const stopped = feed.tail.stop();
      feed.tail = undefined;
      ending.add(stopped);
      void stopped.finally(() => ending.delete(stopped));
    }
    if (queues.size === 0) clearInterval(heartbeat);
  }

  function beatAll(): void {
    const stalledBefore = performance.now() - STALLED_HEARTBEATS * heartbeatMs;
    for (const queue of queues) {
      if ((queue.waitingSince ?? stalledBefore) >= stalledBefore) queue.beat();
      else queue.giveUp();
    }
  }

  return {
    get watchers() {
      return queues.size;
    },
    get tails() {
      return Object.values(feeds).filter(({ tail }) => tail !== undefined).length;
    },
    watch(filter, hangUp) {
      if (closed) throw new WatchEndedError("stopping", STOPPING);
      if (queues.size >= maxWatchers) throw new TooManyWatchersError(`${maxWatchers} watchers are served already`);
      const origins = [...filter.origins];
      for (const origin of origins) if (feeds[origin].tail === undefined) start(origin, feeds[origin]);
      const queue = createWatchQueue({
        ...{ filter, hangUp, maxPoints: QUEUE_POINTS_MAX, maxBytes: QUEUE_BYTES_MAX },
        ...worstOf(origins.map((origin) => feeds[origin])),
        onDropped: (points) => metrics.dropped.inc(points),
        onClose: () => leave(queue),
      });
      if (queues.size === 0) heartbeat = setInterval(beatAll, heartbeatMs);
      queues.add(queue);
      for (const origin of origins) feeds[origin].watching.add(queue);
      return queue;
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      for (const queue of queues) queue.fail(new WatchEndedError("stopping", STOPPING));
      await Promise.all(ending);
    },
  };
}

function createFeed(topic: string): Feed {
  return { topic, watching: new Set(), tail: undefined, state: "connecting", reason: "" };
}

function worstOf(feeds: readonly Feed[]): { state: TailState; reason: string } {
  const worst =
    feeds.find(({ state }) => state === "interrupted") ?? feeds.find(({ state }) => state === "connecting") ?? feeds[0];
  return { state: worst?.state ?? "connecting", reason: worst?.reason ?? "" };
}

function createLiveMetrics(registry: Registry, watchers: () => number) {
  new Gauge({
    name: "millrace_stats_watchers",
    help: "Watchers of live values connected now.",
    registers: [registry],
    collect() {
      this.set(watchers());
    },
  });
  return {
    dropped: new Counter({
      name: "millrace_stats_watch_dropped_points_total",
      help: "Points not shown to a watcher that was too slow to take them.",
      registers: [registry],
    }),
    skipped: new Counter({
      name: "millrace_stats_watch_skipped_records_total",
      help: "Records of the log not shown to any watcher: undecodable, behind, trimmed; reset counts the resets.",
      labelNames: ["reason"],
      registers: [registry],
    }),
  };
}
