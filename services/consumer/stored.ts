// What ClickHouse already holds of a partition: the consumer's questions on assignment, on replay and about ids.
import type { RowOrigin } from "#lib/events/row.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface StoredHead {
  /** Highest offset that is a row or an outcome. */
  offset: number;
  /** Append time of the record it was, milliseconds. */
  appendTimeMs: number;
}

/** Position of a stored row. */
export interface StoredPosition {
  partition: number;
  offset: number;
}

export interface StoredId {
  apiKey: string;
  /** UUID text, lower case. */
  uuid: string;
  offset: number;
  appendTimeMs: number;
}

export interface StoredOffsets {
  /** First offset not known to be accounted for; undefined before any progress was kept. */
  progress(): Promise<number | undefined>;
  /** Looks from `from` upwards. */
  head(from: number): Promise<StoredHead | undefined>;
  /** Rows plus outcomes in [from, to]. */
  count(from: number, to: number): Promise<number>;
  /** Offsets in [from, to] that are neither row nor outcome, ascending. */
  missing(from: number, to: number): Promise<number[]>;
  /** Caller-made ids of rows with offset in [from, to) and append time at or after `sinceMs`, by offset. */
  callerIds(from: number, to: number, sinceMs: number): Promise<StoredId[]>;
  /** Where rows with one of these ids are stored, by `${uuid} ${apiKey}`, in whatever partition, however old. */
  positionsOf(uuids: readonly string[]): Promise<Map<string, StoredPosition[]>>;
}

const OF_PARTITION = "log_epoch = {epoch:String} AND log_topic = {topic:String} AND log_partition = {partition:UInt32}";

export function createStoredOffsets(warehouse: Warehouse, origin: RowOrigin): StoredOffsets {
  const position = { epoch: origin.epoch, topic: origin.topic, partition: origin.partition };

  async function offsets(from: number, to: number): Promise<number[]> {
    const range = `${OF_PARTITION} AND log_offset BETWEEN {from:UInt64} AND {to:UInt64}`;
    const rows = await warehouse.query<{ o: string }>(
      `SELECT log_offset AS o FROM events_raw WHERE ${range} UNION ALL SELECT log_offset AS o FROM log_outcomes WHERE ${range}`,
      { params: { ...position, from, to } },
    );
    return rows.map((row) => Number(row.o));
  }

  return {
    async progress() {
      const rows = await warehouse.query<{ n: string; next: string }>(
        `SELECT count() AS n, max(next_offset) AS next FROM log_progress WHERE ${OF_PARTITION}`,
        { params: position },
      );
      return Number(rows[0]?.n ?? 0) === 0 ? undefined : Number(rows[0]?.next);
    },
    async head(from) {
      const where = `${OF_PARTITION} AND log_offset >= {from:UInt64}`;
      const rows = await warehouse.query<{ o: string; t: string }>(
        `SELECT log_offset AS o, toUnixTimestamp64Milli(log_time) AS t FROM (
           SELECT log_offset, log_time FROM events_raw WHERE ${where} ORDER BY log_offset DESC LIMIT 1
           UNION ALL
           SELECT log_offset, log_time FROM log_outcomes WHERE ${where} ORDER BY log_offset DESC LIMIT 1
         ) ORDER BY o DESC LIMIT 1`,
        { params: { ...position, from } },
      );
      return rows[0] && { offset: Number(rows[0].o), appendTimeMs: Number(rows[0].t) };
    },
    async count(from, to) {
      const range = `${OF_PARTITION} AND log_offset BETWEEN {from:UInt64} AND {to:UInt64}`;
      const rows = await warehouse.query<{ n: string }>(
        `SELECT (SELECT count() FROM events_raw WHERE ${range}) + (SELECT count() FROM log_outcomes WHERE ${range}) AS n`,
        { params: { ...position, from, to } },
      );
      return Number(rows[0]?.n);
    },
    async missing(from, to) {
      const stored = new Set(await offsets(from, to));
      const missing: number[] = [];
      for (let offset = from; offset <= to; offset++) if (!stored.has(offset)) missing.push(offset);
      return missing;
    },
    async callerIds(from, to, sinceMs) {
      const rows = await warehouse.query<{ k: string; u: string; o: string; t: string }>(
        `SELECT api_key AS k, toString(uuid) AS u, log_offset AS o, toUnixTimestamp64Milli(log_time) AS t
         FROM events_raw
         WHERE ${OF_PARTITION} AND log_offset >= {from:UInt64} AND log_offset < {to:UInt64} AND uuid_from_caller
           AND log_time >= fromUnixTimestamp64Milli({since:Int64})
         ORDER BY o`,
        { params: { ...position, from, to, since: sinceMs } },
      );
      return rows.map(({ k, u, o, t }) => ({ apiKey: k, uuid: u, offset: Number(o), appendTimeMs: Number(t) }));
    },
    async positionsOf(uuids) {
      const found = new Map<string, StoredPosition[]>();
      const rows = await warehouse.query<{ k: string; u: string; p: number; o: string }>(
        `SELECT api_key AS k, toString(uuid) AS u, log_partition AS p, log_offset AS o
         FROM events_raw WHERE uuid IN {uuids:Array(UUID)} AND log_epoch = {epoch:String} AND log_topic = {topic:String}`,
        { params: { epoch: origin.epoch, topic: origin.topic, uuids } },
      );
      for (const { k, u, p, o } of rows) {
        const id = `${u} ${k}`;
        found.set(id, [...(found.get(id) ?? []), { partition: Number(p), offset: Number(o) }]);
      }
      return found;
    },
  };
}
