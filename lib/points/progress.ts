// rollup_progress: which slots of a partition are closed. A partition has a row there before it has rows in its table.
import { randomUUID } from "node:crypto";
import type { RowOrigin } from "#lib/events/row.ts";
import { OF_PARTITION } from "#lib/warehouse/positions.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

/** Next slot of a partition whose log is gone: 2100-01-01T00:00:00Z, milliseconds. */
export const ALL_CLOSED_MS = 4_102_444_800_000;

const COLUMNS = ["log_epoch", "log_topic", "log_partition", "next_slot", "previous_slot"];

/** First slot that is not closed, milliseconds; undefined when none was ever noted. */
export async function readNextSlot(warehouse: Warehouse, origin: RowOrigin): Promise<number | undefined> {
  const { epoch, topic, partition } = origin;
  const rows = await warehouse.query<{ n: string; next: string }>(
    `SELECT count() AS n, toUnixTimestamp(max(next_slot)) AS next FROM rollup_progress
     WHERE ${OF_PARTITION}`,
    { params: { epoch, topic, partition } },
  );
  return Number(rows[0]?.n ?? 0) === 0 ? undefined : Number(rows[0]?.next) * 1000;
}

/** Closes the slots before `nextMs`. `previousMs`: what was noted before. A lower slot than the noted one changes nothing. */
export async function noteNextSlot(
  warehouse: Warehouse,
  { epoch, topic, partition }: RowOrigin,
  nextMs: number,
  previousMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const row = [epoch, topic, partition, nextMs / 1000, previousMs / 1000];
  await warehouse.insert({
    table: "rollup_progress",
    columns: COLUMNS,
    rows: Buffer.from(`${JSON.stringify(row)}\n`),
    token: randomUUID(),
    signal,
  });
}

/**
 * Partitions of earlier incarnations of the topic that have open slots, and where these begin. Never of later ones: the
 * caller may have been told its epoch before the topic was made again.
 */
export async function retiredPartitions(
  warehouse: Warehouse,
  topic: string,
  epoch: string,
): Promise<{ origin: RowOrigin; nextMs: number }[]> {
  const rows = await warehouse.query<{ e: string; p: number; next: string }>(
    `SELECT log_epoch AS e, log_partition AS p, toUnixTimestamp(max(next_slot)) AS next FROM rollup_progress
     WHERE log_topic = {topic:String} AND log_epoch != {epoch:String} AND log_epoch NOT IN (
       SELECT log_epoch FROM log_epochs WHERE log_topic = {topic:String} AND created_at >
         (SELECT max(created_at) FROM log_epochs WHERE log_topic = {topic:String} AND log_epoch = {epoch:String}))
     GROUP BY e, p HAVING next < {end:UInt32}`,
    { params: { topic, epoch, end: ALL_CLOSED_MS / 1000 } },
  );
  return rows.map(({ e, p, next }) => ({
    origin: { epoch: e, topic, partition: Number(p) },
    nextMs: Number(next) * 1000,
  }));
}
