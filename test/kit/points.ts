// Points as a relay would send them, and the roll-up as a reader sees it.
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { createUuidV7, parseUuid } from "#lib/events/ids.ts";
import { encodePoint, type LogPoint } from "#lib/events/point-record.ts";
import { ALL_CLOSED_MS, readNextSlot } from "#lib/points/progress.ts";
import { differingSlots, SLOT_MS } from "#lib/points/slots.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { POINTS, type TopicKind } from "../../services/consumer/kinds.ts";
import { createStage, type Stage } from "./consumer.ts";
import { until } from "./until.ts";

const newId = createUuidV7();

/** `id` as UUID text. */
export function pointRecord(fields: Partial<LogPoint> & { id?: string; key?: string } = {}): AppendRecord {
  const { id, key = "r", ...rest } = fields;
  const nowUs = Date.now() * 1000;
  const point: LogPoint = {
    ...{ metric: "cpu", value: 1, tags: { host: "h" }, timeUs: nowUs, receivedUs: nowUs },
    ...{ relayId: "r", collector: "c", sequence: 0 },
    bootId: (id === undefined ? undefined : parseUuid(id)) ?? newId(),
    ...rest,
  };
  return { key: Buffer.from(key), value: encodePoint(point) };
}

export interface Series {
  metric: string;
  tags: Record<string, string>;
  /** Begin of the five minutes of event time, milliseconds. */
  bucketMs: number;
  origin: string;
  count: number;
  sum: number;
  min: number;
  max: number;
  last: number;
  median: number;
}

/** Of one epoch, as points_rollup has it when it is asked as its comment says. */
export async function readRollup(warehouse: Warehouse, epoch: string): Promise<Series[]> {
  const rows = await warehouse.query<Record<keyof Series, never>>(
    `SELECT metric, tags, toUnixTimestamp(bucket) AS bucketMs, origin, sum(r.count) AS count, sum(r.sum) AS sum,
       min(r.min) AS min, max(r.max) AS max, argMax(r.last, (last_time, slot)) AS last,
       quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(quantiles)[1] AS median
     FROM points_rollup AS r WHERE log_epoch = {epoch:String}
     GROUP BY metric, tags, bucket, origin ORDER BY metric, toString(tags), bucket`,
    { params: { epoch } },
  );
  return rows.map((row): Series => ({ ...row, count: Number(row.count), bucketMs: Number(row.bucketMs) * 1000 }));
}

/** Rows of points_5m that count, of one epoch. */
export async function rolledRows(warehouse: Warehouse, epoch: string): Promise<number> {
  const sql = "SELECT toUInt32(count()) AS n FROM points_5m FINAL WHERE log_epoch = {epoch:String}";
  const [row] = await warehouse.query<{ n: number }>(sql, { params: { epoch } });
  return row?.n ?? 0;
}

/** Waits until the slots before `untilMs` are closed. */
export async function closed(
  warehouse: Warehouse,
  { topic }: TopicKind,
  epoch: string,
  untilMs: number,
  partition = 0,
) {
  const next = () => readNextSlot(warehouse, { epoch, topic, partition });
  await until(async () => ((await next()) ?? 0) >= untilMs, "the slots are closed");
}

/** As if what is closed had been so for a minute: readers take it from points_5m. */
export async function letReadersSee(warehouse: Warehouse, epoch: string): Promise<void> {
  await warehouse.command(
    `INSERT INTO rollup_progress SELECT * REPLACE (now64(3) - INTERVAL 1 MINUTE AS updated_at)
     FROM rollup_progress FINAL WHERE log_epoch = {epoch:String}`,
    { params: { epoch } },
  );
}

/** Closed slots that differ from their raw rows, over all time. */
export function allDiffering(warehouse: Warehouse, { topic }: TopicKind, epoch: string, partition = 0) {
  return differingSlots(warehouse, { epoch, topic, partition, fromMs: 0, toMs: ALL_CLOSED_MS });
}

/** Slot number n of the tests' day, milliseconds. */
export function slotAt(n: number): number {
  return 1_790_000_100_000 + n * SLOT_MS;
}

/** A stage for points whose log's clock stands where it is told to. */
export async function pointsStage(
  warehouse: Warehouse,
  epoch: string,
  kind = POINTS,
): Promise<{ stage: Stage; clock: { nowMs: number } }> {
  const clock = { nowMs: slotAt(0) };
  return { stage: await createStage(warehouse, { epoch, kind, now: () => clock.nowMs }), clock };
}

/** The consumer's, far behind the log's: it closes nothing by it. */
export const slowClock: Clock = { nowMs: () => 0, monotonicMs: () => performance.now() };
