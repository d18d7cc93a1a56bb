// The roll-up in ClickHouse. A slot is five minutes of arrival (append time) of one partition of the log, and what is in
// points_5m of it is computed from its raw rows as a whole. To compute it again, after a repair or by two processes at
// once, is always right: the one that began last wins, and it saw at least as much.
import type { RowOrigin } from "#lib/events/row.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { OF_PARTITION } from "#lib/warehouse/positions.ts";
import { keptSince } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { readNextSlot } from "./progress.ts";

export const SLOT_MS = 300_000;

/** Slots that begin in [fromMs, toMs), milliseconds, both multiples of SLOT_MS. */
export interface SlotRange extends RowOrigin {
  fromMs: number;
  toMs: number;
}

/** A slot that does not say what its raw rows say. */
export interface DifferingSlot {
  slotMs: number;
  /** Roll-up rows that are missing, too many, or different. */
  rows: number;
}

/** Where the raw rows of a topic are. */
const RAW: Record<string, { name: string; stored: string; origin: string }> = {
  [POINTS_TOPIC]: { name: "points", stored: "points", origin: "relay" },
  [EVENTS_TOPIC]: { name: "event_points", stored: "events_raw", origin: "event" },
};

const COMPUTE_SECONDS_MAX = 300;
/** Raw rows compared in one query, unless one slot has more: memory grows with their series. */
const COMPARED_ROWS_MAX = 2_000_000;

const ROLLED_ROWS = `${OF_PARTITION}
  AND slot >= toDateTime(intDiv({from:Int64}, 1000), 'UTC') AND slot < toDateTime(intDiv({to:Int64}, 1000), 'UTC')`;
// Qualified: what is selected may have these names as well.
const RAW_ROWS = `r.log_epoch = {epoch:String} AND r.log_topic = {topic:String} AND r.log_partition = {partition:UInt32}
  AND log_time >= fromUnixTimestamp64Milli({from:Int64}) AND log_time < fromUnixTimestamp64Milli({to:Int64})`;
const KEY = "metric, bucket, series, slot";
const COLUMNS = `metric, tags, series, bucket, origin, log_epoch, log_topic, log_partition, slot,
  count, sum, min, max, last, last_time, quantiles, version, is_deleted`;

function rawOf(topic: string) {
  const raw = RAW[topic];
  if (!raw) throw new TypeError(`nothing of topic ${topic} is rolled up`);
  return raw;
}

/** First slot boundary at or before the time. */
export function slotOf(timeMs: number): number {
  return Math.floor(timeMs / SLOT_MS) * SLOT_MS;
}

/** First slot boundary at or after the time. */
export function firstSlotFrom(timeMs: number): number {
  return Math.ceil(timeMs / SLOT_MS) * SLOT_MS;
}

/** The slots' rows as their raw rows make them, in the columns of points_5m but for the last two; as points_rollup has it. */
function computed(topic: string): string {
  const { name, origin } = rawOf(topic);
  return `SELECT metric, any(tags) AS tags, sipHash128(r.tags) AS series,
      toDateTime(least(intDiv(toUnixTimestamp64Micro(time), 300000000) * 300, 4294967100), 'UTC') AS bucket,
      '${origin}' AS origin, any(r.log_epoch) AS log_epoch, any(r.log_topic) AS log_topic,
      any(r.log_partition) AS log_partition, toStartOfFiveMinutes(log_time) AS slot,
      count() AS count, sum(value) AS sum, min(value) AS min, max(value) AS max,
      argMax(value, (time, log_offset)) AS last, max(time) AS last_time,
      quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(value) AS quantiles
    FROM ${name} AS r
    WHERE ${RAW_ROWS}
    GROUP BY ${KEY}`;
}

/**
 * Computes the slots from their raw rows, all of which must still be there. The version is above that of every row they
 * have, so that neither an earlier attempt nor a clock set back can win over it.
 */
export async function computeSlots(warehouse: Warehouse, range: SlotRange, signal?: AbortSignal): Promise<void> {
  // A series that has no raw rows any more is deleted, in the same insert: LIMIT BY prefers the computed row.
  await warehouse.command(
    `INSERT INTO points_5m (${COLUMNS})
     WITH (SELECT toUInt64(greatest(toUnixTimestamp64Micro(now64(6)), max(version) + 1)) FROM points_5m WHERE ${ROLLED_ROWS}) AS next
     SELECT ${COLUMNS} FROM (
       SELECT *, next AS version, 0 AS is_deleted FROM (${computed(range.topic)})
       UNION ALL
       SELECT * REPLACE (next AS version, 1 AS is_deleted) FROM (
         SELECT ${COLUMNS} FROM points_5m FINAL WHERE ${ROLLED_ROWS})
     ) ORDER BY is_deleted LIMIT 1 BY ${KEY}`,
    { params: paramsOf(range), maxSeconds: COMPUTE_SECONDS_MAX, signal },
  );
}

/**
 * For repairs: computes the slots again but for those whose raw rows may have expired, since nothing is left to compute
 * these from. Resolves with the first slot that was computed, milliseconds; `toMs` when none was.
 */
export async function recomputeSlots(warehouse: Warehouse, range: SlotRange, signal?: AbortSignal): Promise<number> {
  const kept = await keptRange(warehouse, range);
  if (kept.fromMs < kept.toMs) await computeSlots(warehouse, kept, signal);
  return kept.fromMs;
}

/**
 * Closed slots whose roll-up is not what their raw rows make, in order; `among` restricts them. Those of which something
 * may have expired are left out. While a consumer works a row may be stored and not be in the roll-up yet.
 */
export async function differingSlots(
  warehouse: Warehouse,
  range: SlotRange,
  among?: ReadonlySet<number>,
): Promise<DifferingSlot[]> {
  // Asked for before anything else: what is closed by now is computed by now.
  const nextMs = await readNextSlot(warehouse, range);
  const kept = await keptRange(warehouse, { ...range, toMs: Math.min(range.toMs, nextMs ?? 0) });
  if (kept.fromMs >= kept.toMs) return [];
  const differing: DifferingSlot[] = [];
  for (const part of partsOf(await weighSlots(warehouse, kept), among)) {
    differing.push(...(await compareSlots(warehouse, { ...kept, ...part })));
  }
  return among ? differing.filter(({ slotMs }) => among.has(slotMs)) : differing;
}

interface Weight {
  slotMs: number;
  rows: number;
}

/** Rows of each slot that has any, raw or rolled up. */
async function weighSlots(warehouse: Warehouse, range: SlotRange): Promise<Weight[]> {
  const rows = await warehouse.query<{ s: number; n: string }>(
    `SELECT toUnixTimestamp(slot) AS s, sum(n) AS n FROM (
       SELECT toStartOfFiveMinutes(log_time) AS slot, count() AS n FROM ${rawOf(range.topic).name} AS r WHERE ${RAW_ROWS} GROUP BY slot
       UNION ALL
       SELECT slot, count() AS n FROM points_5m WHERE ${ROLLED_ROWS} GROUP BY slot
     ) GROUP BY slot ORDER BY slot`,
    { params: paramsOf(range), maxSeconds: COMPUTE_SECONDS_MAX },
  );
  return rows.map(({ s, n }) => ({ slotMs: Number(s) * 1000, rows: Number(n) }));
}

/** Ranges that one query can compare, without those that have none of `among`. */
function partsOf(weights: readonly Weight[], among?: ReadonlySet<number>): { fromMs: number; toMs: number }[] {
  const parts: { fromMs: number; toMs: number; rows: number; isWanted: boolean }[] = [];
  for (const { slotMs, rows } of weights) {
    const toMs = slotMs + SLOT_MS;
    const isWanted = among === undefined || among.has(slotMs);
    const last = parts.at(-1);
    if (last && last.rows + rows <= COMPARED_ROWS_MAX) {
      Object.assign(last, { toMs, rows: last.rows + rows, isWanted: last.isWanted || isWanted });
    } else {
      parts.push({ fromMs: slotMs, toMs, rows, isWanted });
    }
  }
  return parts.filter(({ isWanted }) => isWanted).map(({ fromMs, toMs }) => ({ fromMs, toMs }));
}

async function compareSlots(warehouse: Warehouse, range: SlotRange): Promise<DifferingSlot[]> {
  // Sums depend on the order of their terms in the last digits, and nothing else does.
  const rows = await warehouse.query<{ s: number; n: string }>(
    `SELECT toUnixTimestamp(slot) AS s, count() AS n FROM (
       SELECT metric, bucket, series, slot, groupArray((count, min, max, last, last_time, toString(tags))) AS both,
         groupArray(sum) AS sums, max(greatest(abs(min), abs(max)) * count) AS size
       FROM (
         SELECT ${KEY}, tags, count, sum, min, max, last, last_time FROM (${computed(range.topic)})
         UNION ALL
         SELECT ${KEY}, tags, count, sum, min, max, last, last_time FROM points_5m FINAL WHERE ${ROLLED_ROWS}
       ) GROUP BY ${KEY}
       HAVING length(both) != 2 OR both[1] != both[2] OR abs(sums[1] - sums[2]) > 1e-9 * size
     )
     GROUP BY slot ORDER BY slot`,
    { params: paramsOf(range), maxSeconds: COMPUTE_SECONDS_MAX },
  );
  return rows.map(({ s, n }) => ({ slotMs: Number(s) * 1000, rows: Number(n) }));
}

/** Slots at or after `fromMs` that have raw rows, in order, milliseconds. */
export async function slotsWithRows(warehouse: Warehouse, origin: RowOrigin, fromMs: number): Promise<number[]> {
  const rows = await warehouse.query<{ s: number }>(
    `SELECT DISTINCT toUnixTimestamp(toStartOfFiveMinutes(log_time)) AS s FROM ${rawOf(origin.topic).name}
     WHERE ${OF_PARTITION} AND log_time >= fromUnixTimestamp64Milli({from:Int64}) ORDER BY s`,
    { params: { ...origin, from: fromMs }, maxSeconds: COMPUTE_SECONDS_MAX },
  );
  return rows.map(({ s }) => Number(s) * 1000);
}

function paramsOf({ epoch, topic, partition, fromMs, toMs }: SlotRange) {
  return { epoch, topic, partition, from: fromMs, to: toMs };
}

/** True when raw rows that arrived at the time or soon after it may have expired. */
export async function mayHaveExpired(warehouse: Warehouse, topic: string, timeMs: number): Promise<boolean> {
  const since = await keptSince(warehouse, [rawOf(topic).stored]);
  return since !== undefined && timeMs < since;
}

/** The part of the range of which no TTL has touched a raw row or the roll-up, or is about to. */
async function keptRange(warehouse: Warehouse, range: SlotRange): Promise<SlotRange> {
  const since = await keptSince(warehouse, [rawOf(range.topic).stored, "points_5m"]);
  if (since === undefined) return range;
  return { ...range, fromMs: Math.min(Math.max(range.fromMs, firstSlotFrom(since)), range.toMs) };
}
