// Trims the standalone's event log: what is stored in ClickHouse and older than LOG_RETENTION. (Kafka trims itself.)

import type { LogAdmin, LogReader } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_GROUP, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";

const INTERVAL_MS = 60_000;

export function startRetention(log: LogReader & LogAdmin, retentionMs: number, logger: Logger): AsyncDisposable {
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    running = running.then(() =>
      trimOnce(log, Date.now() - retentionMs).catch((error: unknown) => {
        logger.warn({ err: error }, "event log not trimmed; it is tried again in a minute");
      }),
    );
  }, INTERVAL_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await running;
    },
  };
}

/** Removes records appended before `olderThanMs`, never one that is not committed as stored. */
async function trimOnce(log: LogReader & LogAdmin, olderThanMs: number): Promise<void> {
  await trimTopic(log, EVENTS_TOPIC, CONSUMER_GROUP, olderThanMs);
  await trimTopic(log, POINTS_TOPIC, POINTS_GROUP, olderThanMs);
}

async function trimTopic(log: LogReader & LogAdmin, topic: string, group: string, olderThanMs: number): Promise<void> {
  const committed = await log.committed(topic, group);
  for (const { partition, start } of await log.bounds(topic)) {
    const stored = committed.get(partition)?.offset ?? start;
    const before = await firstAtOrAfter(log, topic, partition, { from: start, to: stored }, olderThanMs);
    if (before > start) await log.trim(topic, partition, before);
  }
}

/** First offset in [from, to] appended at or after the time; append times never decrease. */
async function firstAtOrAfter(
  log: LogReader & LogAdmin,
  topic: string,
  partition: number,
  { from, to }: { from: number; to: number },
  timeMs: number,
): Promise<number> {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const [record] = await log.tail(topic, partition, {
      from: middle,
      maxRecords: 1,
      maxBytes: 1,
      maxWaitMs: 0,
    });
    if (record && record.appendTimeMs < timeMs) low = middle + 1;
    else high = middle;
  }
  return low;
}
