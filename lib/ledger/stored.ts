// What ClickHouse already holds of a partition: the consumer's questions on assignment, on replay and about ids.
import { parseUuid } from "#lib/events/ids.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { Said } from "#lib/events/said.ts";
import { createIdLookup } from "#lib/warehouse/id-lookup.ts";
import { OF_PARTITION } from "#lib/warehouse/positions.ts";
import { type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";
import { callerIdsSql, createCallerIdReader, type TakeId } from "./caller-ids.ts";
import { windowId } from "./id-window.ts";
import type { Head } from "./same-log.ts";
import type { RowTable } from "./stored-topics.ts";

/** Position of a stored row. */
export interface StoredPosition {
  epoch: string;
  partition: number;
  offset: number;
}

/** What became of an offset: a row, or the outcome that says why there is no row. */
export type Fate = "row" | "duplicate" | "conflict" | "dead_letter" | "erased" | "lost" | "aborted";

export interface Fates {
  byOffset: ReadonlyMap<number, Fate>;
  /** Rows and outcomes beyond one an offset. Anything but 0 is a fault. */
  surplus: number;
}

export interface StoredOffsets {
  /** First offset not known to be accounted for; undefined before any progress was kept. */
  progress(): Promise<number | undefined>;
  /** Looks from `from` upwards. */
  head(from: number): Promise<Head | undefined>;
  /** Of the offsets in [from, to]; one that is not stored is absent. */
  fates(from: number, to: number): Promise<Fates>;
  /** How many offsets in [from, to) are a row or an outcome. */
  accounted(from: number, to: number): Promise<number>;
  /** Offsets in [from, to] whose bytes are in dead_letters. */
  deadLetters(from: number, to: number): Promise<Set<number>>;
  /** Records that ClickHouse refused since the last row before offset `before`, as far back as a thousand offsets. */
  refusedBefore(before: number): Promise<number>;
  /** Caller-made ids of rows with offset in [from, to) and append time at or after `sinceMs`, by offset. */
  callerIds(from: number, to: number, sinceMs: number, take: TakeId): Promise<void>;
  /** Where rows with one of these ids are stored, by windowId, in whatever epoch and partition, however old and many. */
  positionsOf(uuids: readonly string[]): Promise<Map<string, StoredPosition[]>>;
  /** What the rows at these offsets say, of topics of events; one that is not stored is absent. */
  said(of: Omit<StoredPosition, "offset">, offsets: readonly number[]): Promise<Map<number, Said>>;
}

/** Error classes of dead letters that ClickHouse refused begin with it. */
export const REFUSED_CLASS = "clickhouse_";
const REFUSED_LOOKBACK = 1000;
/** Of what rows say. */
const SAID_SECONDS_MAX = 20;

/** Of a cluster: the partition's shard is asked, and for ids, which may be of another partition, every shard. */
export function createStoredOffsets(warehouse: Warehouse, origin: RowOrigin, table: RowTable): StoredOffsets {
  const { name } = table;
  const placesOf = createIdLookup(warehouse, table);
  const own = warehouseOf(warehouse, origin.partition);
  const position = { epoch: origin.epoch, topic: origin.topic, partition: origin.partition };

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
      const rows = await own.query<{ o: string; t: string }>(
        `SELECT log_offset AS o, toUnixTimestamp64Milli(log_time) AS t FROM (
           SELECT log_offset, log_time FROM ${name} WHERE ${where} ORDER BY log_offset DESC LIMIT 1
           UNION ALL
           SELECT log_offset, log_time FROM log_outcomes WHERE ${where} ORDER BY log_offset DESC LIMIT 1
         ) ORDER BY o DESC LIMIT 1`,
        { params: { ...position, from } },
      );
      return rows[0] && { offset: Number(rows[0].o), appendTimeMs: Number(rows[0].t) };
    },
    async fates(from, to) {
      const range = `${OF_PARTITION} AND log_offset BETWEEN {from:UInt64} AND {to:UInt64}`;
      const rows = await own.query<{ o: string; f: Fate }>(
        `SELECT log_offset AS o, 'row' AS f FROM ${name} WHERE ${range}
         UNION ALL SELECT log_offset AS o, toString(outcome) AS f FROM log_outcomes WHERE ${range}`,
        { params: { ...position, from, to } },
      );
      const byOffset = new Map<number, Fate>();
      let surplus = 0;
      for (const { o, f } of rows) {
        const known = byOffset.get(Number(o));
        // An erasure says so before it deletes, and may say so twice: whatever else is there is on its way out.
        const isErased = f === "erased" || known === "erased";
        if (known !== undefined && !isErased) surplus++;
        byOffset.set(Number(o), isErased ? "erased" : f);
      }
      return { byOffset, surplus };
    },
    async accounted(from, to) {
      const range = `${OF_PARTITION} AND log_offset >= {from:UInt64} AND log_offset < {to:UInt64}`;
      const [row] = await own.query<{ n: string }>(
        `SELECT uniqExact(o) AS n FROM (
           SELECT log_offset AS o FROM ${name} WHERE ${range}
           UNION ALL SELECT log_offset AS o FROM log_outcomes WHERE ${range})`,
        { params: { ...position, from, to } },
      );
      return Number(row?.n ?? 0);
    },
    async deadLetters(from, to) {
      const rows = await own.query<{ o: string }>(
        `SELECT log_offset AS o FROM dead_letters
         WHERE ${OF_PARTITION} AND log_offset BETWEEN {from:UInt64} AND {to:UInt64}`,
        { params: { ...position, from, to } },
      );
      return new Set(rows.map(({ o }) => Number(o)));
    },
    async refusedBefore(before) {
      const range = `${OF_PARTITION} AND log_offset >= {since:UInt64} AND log_offset < {before:UInt64}`;
      const rows = await own.query<{ n: string }>(
        `SELECT count() AS n FROM log_outcomes
         WHERE ${range} AND outcome = 'dead_letter' AND startsWith(detail, {refused:String}) AND log_offset >=
           (SELECT if(count() = 0, 0, max(log_offset) + 1) FROM ${name} WHERE ${range})`,
        { params: { ...position, before, since: Math.max(0, before - REFUSED_LOOKBACK), refused: REFUSED_CLASS } },
      );
      return Number(rows[0]?.n);
    },
    callerIds(from, to, sinceMs, take) {
      const params = { ...position, from, to, since: sinceMs };
      return own.readBinary(callerIdsSql(table), createCallerIdReader(take), { params });
    },
    async positionsOf(uuids) {
      const found = new Map<string, StoredPosition[]>();
      for (const { uuid, apiKey, ...position } of await placesOf(uuids)) {
        const id = windowId(parseUuid(uuid) as Uint8Array, apiKey);
        const positions = found.get(id);
        if (positions) positions.push(position);
        else found.set(id, [position]);
      }
      return found;
    },
    async said({ epoch, partition }, offsets) {
      const rows = await warehouseOf(warehouse, partition).query<SaidRow>(
        `SELECT log_offset AS o, event, distinct_id, source, value, toUnixTimestamp64Micro(timestamp) AS t,
           toUnixTimestamp64Micro(inserted_at) AS r, original_timestamp, lower(hex(SHA256(properties))) AS h
         FROM ${name} WHERE ${OF_PARTITION} AND log_offset IN {offsets:Array(UInt64)}`,
        { params: { epoch, topic: origin.topic, partition, offsets }, maxSeconds: SAID_SECONDS_MAX },
      );
      return new Map(rows.map((row) => [Number(row.o), saidInRow(row)]));
    },
  };
}

interface SaidRow {
  o: string;
  event: string;
  distinct_id: string;
  source: string;
  value: number | null;
  t: string;
  r: string;
  original_timestamp: string;
  h: string;
}

function saidInRow(row: SaidRow): Said {
  return {
    ...{ event: row.event, distinctId: row.distinct_id, source: row.source, value: row.value },
    ...{
      timeUs: Number(row.t),
      receivedUs: Number(row.r),
      originalTime: row.original_timestamp,
      propertiesHash: row.h,
    },
  };
}
