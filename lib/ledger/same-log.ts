// Whether the log is still the one whose records are stored, and what to do when it is not, or when it has let records go.
import {
  type LogReader,
  LogUnavailableError,
  OffsetOutOfRangeError,
  type PartitionBounds,
  type StoredRecord,
} from "#lib/eventlog/log.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { PROGRESS_OF_LOG } from "./progress.ts";
import type { StoredTopic } from "./stored-topics.ts";

/** The highest offset that is a row or an outcome, and when its record was appended. */
export interface Head {
  offset: number;
  appendTimeMs: number;
}

const READ_WAIT_MS = 2_000;

/**
 * Says why this cannot be the log that was stored; undefined when it can. `appendedAt` reads one record's append time. A
 * log that was wiped begins at 0 again: its records would be swallowed by the old records' tokens.
 */
export async function resetFault(
  head: Head | undefined,
  { start, end }: PartitionBounds,
  appendedAt: (offset: number) => Promise<number | undefined>,
): Promise<string | undefined> {
  if (!head) return undefined;
  const { offset, appendTimeMs } = head;
  if (end <= offset) {
    return `the log ends at offset ${end}, but offset ${offset} of this epoch is stored: the log was reset`;
  }
  if (offset < start) return undefined;
  const found = await appendedAt(offset);
  if (found === appendTimeMs) return undefined;
  return `the record at offset ${offset} is not the one stored from there (append times ${found} and ${appendTimeMs}): the log was reset and refilled`;
}

/** Of a log that was emptied or replaced. */
export function resetRemedy({ newEpochFlag }: StoredTopic): string {
  return `if the topic was deleted or recreated, run \`millrace migrate ${newEpochFlag}\`; if the log was restored from a backup, restore ClickHouse with it`;
}

/** Of a log that has removed records before they were stored. */
export const TRIMMED_REMEDY =
  "`millrace verify` shows what is lost; give it up with `millrace verify --accept-lost`, and restart the consumers";

/** Of a log that has removed records between others. */
export const COMPACTED_REMEDY =
  "set the topic's cleanup.policy to delete; then give up what is gone with `millrace verify --accept-lost`, and restart the consumers";

/** By partition; a partition of which nothing is stored is absent. Looks from the noted progress upwards. */
export async function storedHeads(
  warehouse: Warehouse,
  kind: Pick<StoredTopic, "topic" | "table">,
  epoch: string,
  signal?: AbortSignal,
): Promise<Map<number, Head>> {
  const progress = await warehouse.query<{ p: number; next: string }>(PROGRESS_OF_LOG, {
    params: { epoch, topic: kind.topic },
    signal,
  });
  const nexts = new Map(progress.map(({ p, next }) => [Number(p), Number(next)]));
  const isFromProgress =
    "log_offset + 1 >= transform(log_partition, {partitions:Array(UInt32)}, {offsets:Array(UInt64)}, toUInt64(0))";
  return headsWhere(warehouse, kind, epoch, isFromProgress, nexts, signal);
}

/** The highest that are stored, of the rows and outcomes for which `condition` is true, which knows `offsets` by partition. */
async function headsWhere(
  warehouse: Warehouse,
  { topic, table }: Pick<StoredTopic, "topic" | "table">,
  epoch: string,
  condition: string,
  offsets: ReadonlyMap<number, number>,
  signal?: AbortSignal,
): Promise<Map<number, Head>> {
  const select = (from: string) =>
    `SELECT log_partition AS p, log_offset AS o, toUnixTimestamp64Milli(log_time) AS t FROM ${from}
     WHERE log_epoch = {epoch:String} AND log_topic = {topic:String} AND ${condition}`;
  const params = { epoch, topic, partitions: [...offsets.keys()], offsets: [...offsets.values()] };
  const ofShards = shardsOf(warehouse).map((shard) =>
    shard.query<{ p: number; head: string; ms: string }>(
      `SELECT p, toString(max(o)) AS head, toString(argMax(t, o)) AS ms
       FROM (${select(table.name)} UNION ALL ${select("log_outcomes")}) GROUP BY p ORDER BY p`,
      { params, signal },
    ),
  );
  const rows = (await Promise.all(ofShards)).flat();
  return new Map(rows.map(({ p, head, ms }) => [Number(p), { offset: Number(head), appendTimeMs: Number(ms) }]));
}

/** A stored record that the log still holds: the proof that it is the same log. Undefined when it holds none of them. */
export async function stillHeld(
  log: LogReader,
  topic: string,
  heads: ReadonlyMap<number, Head>,
): Promise<{ partition: number; offset: number } | undefined> {
  for (const { partition, start, end } of await log.bounds(topic)) {
    const head = heads.get(partition);
    if (!head || head.offset < start || head.offset >= end) continue;
    if ((await appendedAt(log, topic, partition, head.offset)) === head.appendTimeMs) {
      return { partition, offset: head.offset };
    }
  }
  return undefined;
}

/**
 * Whether the log has a record that is stored: the last of a partition, or where the log ends before it, as a copy does
 * that was made while records came, the last that the log has. Rejects when that cannot be told for want of an answer.
 */
export async function holdsAnyStored(
  log: LogReader,
  warehouse: Warehouse,
  kind: Pick<StoredTopic, "topic" | "table">,
  epoch: string,
): Promise<boolean> {
  const { topic } = kind;
  const heads = await storedHeads(warehouse, kind, epoch);
  const bounds = await log.bounds(topic);
  const lasts = new Map(
    bounds.filter(({ start, end }) => end > start).map(({ partition, end }) => [partition, end - 1]),
  );
  const isLast =
    "has({partitions:Array(UInt32)}, log_partition) AND log_offset = transform(log_partition, {partitions:Array(UInt32)}, {offsets:Array(UInt64)}, toUInt64(0))";
  const atLasts = await headsWhere(warehouse, kind, epoch, isLast, lasts);
  let silent: string | undefined;
  for (const { partition, start, end } of bounds) {
    const head = heads.get(partition);
    const known = head && head.offset < end ? head : atLasts.get(partition);
    if (!known || known.offset < start) continue;
    const found = await recordAt(log, topic, partition, known.offset);
    if (found === "silent") silent = `${topic}[${partition}] does not send offset ${known.offset}`;
    else if (found?.appendTimeMs === known.appendTimeMs) return true;
  }
  if (silent !== undefined) throw new LogUnavailableError(silent);
  return false;
}

/** Undefined when the log no longer has the record, or does not answer in time. */
export async function appendedAt(
  log: LogReader,
  topic: string,
  partition: number,
  offset: number,
): Promise<number | undefined> {
  const found = await recordAt(log, topic, partition, offset);
  return found === "silent" ? undefined : found?.appendTimeMs;
}

/** Undefined: the log no longer has it. */
async function recordAt(
  log: LogReader,
  topic: string,
  partition: number,
  offset: number,
): Promise<StoredRecord | "silent" | undefined> {
  const read = { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: READ_WAIT_MS };
  try {
    return (await log.tail(topic, partition, read))[0] ?? "silent";
  } catch (error) {
    if (error instanceof OffsetOutOfRangeError) return undefined;
    throw error;
  }
}
