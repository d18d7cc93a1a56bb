// An event of our own, followed from the gateway over the log to its row.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import type { LogReader } from "#lib/eventlog/log.ts";
import { parseUuid } from "#lib/events/ids.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { type SentEvent, sendEvent } from "./http.ts";
import type { Result } from "./probe.ts";

/** Without a distinct id: it is nobody's, and each one goes to a partition of its own choice. */
const CANARY = { event_type: "$millrace_canary", source: "doctor" };
const POLL_MS = 50;
const READ = { maxRecords: 1_000, maxBytes: 4 * 1024 * 1024, maxWaitMs: 200 };

export interface SentCanary extends SentEvent {
  /** Ends of the topic's partitions before it was sent; undefined: the log could not be asked. */
  ends: ReadonlyMap<number, number> | undefined;
}

export interface CanaryTarget {
  url: string;
  apiKey: string | undefined;
  /** Undefined: it could not be opened. */
  log: LogReader | undefined;
}

export async function sendCanary({ url, apiKey, log }: CanaryTarget, signal: AbortSignal): Promise<Result<SentCanary>> {
  const bounds = await log?.bounds(EVENTS_TOPIC);
  const ends = bounds && new Map(bounds.map(({ partition, end }) => [partition, end]));
  const event = { ...CANARY, id: randomUUID(), created_at: new Date().toISOString() };
  const sent = await sendEvent(url, apiKey, event, signal);
  return { ...sent, value: sent.value && { ...sent.value, ends } };
}

export interface LoggedCanary {
  partition: number;
  offset: number;
  /** The log's clock minus ours, milliseconds, give or take `uncertainMs`. */
  clockSkewMs: number;
  uncertainMs: number;
}

/** Runs until the signal fires or the record is found. `partitions` are those that the gateway uses; 0: all. */
export async function findOnLog(
  log: LogReader,
  { id, sentMs, ends }: SentCanary,
  partitions: number,
  signal: AbortSignal,
): Promise<Result<LoggedCanary>> {
  const key = parseUuid(id);
  if (!ends || !key) return { status: "skip", what: "not looked for: the log could not be asked before it was sent" };
  const partition = partitionOf(key, Math.min(ends.size, partitions || ends.size));
  let from = ends.get(partition) ?? 0;
  for (;;) {
    const records = await log.tail(EVENTS_TOPIC, partition, { ...READ, from });
    const found = records.find((record) => Buffer.compare(record.key, key) === 0);
    const nowMs = Date.now();
    if (found) {
      const { offset, appendTimeMs } = found;
      const clock = { clockSkewMs: appendTimeMs - (sentMs + nowMs) / 2, uncertainMs: (nowMs - sentMs) / 2 };
      const what = `${EVENTS_TOPIC}, partition ${partition}, offset ${offset}, seen after ${nowMs - sentMs} ms`;
      return { status: "ok", what, value: { partition, offset, ...clock } };
    }
    from += records.length;
    if (records.length === 0) await pause(POLL_MS, undefined, { signal });
  }
}

/** Runs until the signal fires or the record has become something; `logged` is its place, where that is known. */
export async function findRow(
  warehouse: Warehouse,
  { id, sentMs }: SentCanary,
  logged: Promise<LoggedCanary | undefined>,
  signal: AbortSignal,
): Promise<Result<true>> {
  const fate = `SELECT 'row' AS fate FROM events_raw WHERE uuid = {id:UUID}`;
  const outcome = `SELECT outcome AS fate FROM log_outcomes WHERE log_topic = {topic:String} AND log_partition = {partition:UInt32}
    AND log_offset = {offset:UInt64} AND log_time > now() - INTERVAL 1 HOUR`;
  let place: LoggedCanary | undefined;
  void logged.then((known) => {
    place = known;
  });
  for (;;) {
    const sql = place ? `${fate} UNION ALL ${outcome}` : fate;
    const { partition, offset } = place ?? { partition: 0, offset: 0 };
    const params = { id, topic: EVENTS_TOPIC, partition, offset };
    const asked = shardsOf(warehouse).map((shard) => shard.query<{ fate: string }>(sql, { params, signal }));
    const [found] = (await Promise.all(asked)).flat();
    if (found?.fate === "row") {
      return { status: "ok", what: `a row in ClickHouse after ${Date.now() - sentMs} ms`, value: true };
    }
    if (found) {
      const fix = "`millrace dead-letters ls` and the consumer's log say why";
      return { status: "fail", what: `it became no row: ${found.fate}`, fix };
    }
    await pause(POLL_MS, undefined, { signal });
  }
}
