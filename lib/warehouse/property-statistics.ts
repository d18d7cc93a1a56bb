// What properties events have, from the events themselves: a count of all of them, keys and types of a sample. Of a cluster
// each shard is asked, and what they say is added up.
import { type BlockSample, blockSampleOf, IN_SAMPLE, type SampleBounds } from "./block-sample.ts";
import { dateTimeOf, type PropertyType } from "./promoted-columns.ts";
import { type QueryOptions, shardsOf, type Warehouse } from "./warehouse.ts";

/** Which events are looked at. */
export interface Scope {
  days: number;
  /** Only events of this name. */
  event: string | undefined;
  /** Looks at about so many of them; absent: 100,000 of all blocks. */
  sample?: SampleBounds;
}

export type ValueKind = "string" | "integer" | "number" | "boolean" | "object" | "array" | "null";

export interface KeyStatistic {
  key: string;
  /** Of the events that were looked at, those that have the key. */
  events: number;
  kinds: ValueKind[];
  /** JSON text of a value that is not null where there is one, cut. */
  example: string;
}

export interface KeyStatistics {
  /** Events in the scope, and how many of them were looked at. */
  total: number;
  sampled: number;
  /** Most frequent first. */
  keys: KeyStatistic[];
}

/** Values of one key among the events that have it and that were looked at; null values are in `present` only. */
export interface ValueCounts {
  present: number;
  strings: number;
  dates: number;
  integers: number;
  numbers: number;
  booleans: number;
}

const SAMPLE: SampleBounds = { blocks: Number.POSITIVE_INFINITY, rows: 100_000 };
const EXAMPLE_CHARS = 200;
/** Of each shard of several: a key may be frequent although it is not among the first ones anywhere. */
const KEYS_PER_SHARD = 10_000;

// Properties can be large and keys can be made without end: over these bounds a part of the sample is looked at, and keys
// that come up for the first time are left out.
const BOUNDS = `SETTINGS max_bytes_to_read = 4000000000, read_overflow_mode = 'break',
  max_rows_to_group_by = 200000, group_by_overflow_mode = 'any'`;

const KIND = `multiIf(raw = 'null', 'null', raw IN ('true', 'false'), 'boolean', startsWith(raw, '"'), 'string',
  startsWith(raw, '{'), 'object', startsWith(raw, '['), 'array', toInt64OrNull(raw) IS NULL, 'number', 'integer')`;

interface KeyRow {
  /** One row is of the events themselves, so that all counts are of the same events. */
  isEvent: number;
  key: string;
  n: string;
  kinds: ValueKind[];
  example: string;
}

/** Keys of the first level by frequency. Rejects with WarehouseError. */
export async function readKeys(warehouse: Warehouse, scope: Scope, limit: number): Promise<KeyStatistics> {
  const { total, ...every } = await sampleOf(warehouse, scope);
  if (total === 0) return { total, sampled: 0, keys: [] };
  const shards = shardsOf(warehouse);
  const most = shards.length === 1 ? limit : KEYS_PER_SHARD;
  const asked = shards.map((shard) =>
    shard.query<KeyRow>(
      `SELECT isEvent, key, toString(count()) AS n, arraySort(groupUniqArray(8)(${KIND})) AS kinds,
              leftUTF8(if(anyIf(raw, raw != 'null') = '', 'null', anyIf(raw, raw != 'null')), {chars:UInt32}) AS example
       FROM (
         SELECT entry.1 AS key, entry.2 AS raw, entry.3 AS isEvent FROM (
           SELECT arrayJoin(arrayPushFront(
             arrayMap(pair -> (pair.1, pair.2, 0), JSONExtractKeysAndValuesRaw(properties)), ('', '', 1))) AS entry
           FROM events_raw ${sampled(scope)}
         )
       )
       GROUP BY isEvent, key ORDER BY isEvent DESC, count() DESC, key LIMIT {rows:UInt32} ${BOUNDS}`,
      { params: { ...paramsOf(scope, every), chars: EXAMPLE_CHARS, rows: most + 1 } },
    ),
  );
  const rows = (await Promise.all(asked)).flat();
  const events = rows.filter(({ isEvent }) => isEvent === 1);
  return {
    total,
    sampled: events.reduce((sum, { n }) => sum + Number(n), 0),
    keys: addedUp(rows.filter(({ isEvent }) => isEvent === 0)).slice(0, limit),
  };
}

function addedUp(rows: readonly KeyRow[]): KeyStatistic[] {
  const keys = new Map<string, KeyStatistic>();
  for (const { key, n, kinds, example } of rows) {
    const known = keys.get(key);
    if (!known) {
      keys.set(key, { key, events: Number(n), kinds, example });
      continue;
    }
    known.events += Number(n);
    known.kinds = [...new Set([...known.kinds, ...kinds])].sort();
    if (known.example === "null") known.example = example;
  }
  // What one shard says is in order, and stays so.
  return [...keys.values()].sort((a, b) => b.events - a.events);
}

/** What the values of the key are. Rejects with WarehouseError. */
export async function countValues(warehouse: Warehouse, scope: Scope, key: string): Promise<ValueCounts> {
  const { total: _, ...every } = await sampleOf(warehouse, scope);
  const text = "JSONExtractString(properties, {key:String})";
  const sql = `SELECT toString(count()) AS present, toString(countIf(kind = 'string')) AS strings,
       toString(countIf(kind = 'string' AND isDate)) AS dates, toString(countIf(kind = 'integer')) AS integers,
       toString(countIf(kind IN ('integer', 'number'))) AS numbers, toString(countIf(kind = 'boolean')) AS booleans
     FROM (
       SELECT JSONExtractRaw(properties, {key:String}) AS raw, ${KIND} AS kind, ${dateTimeOf(text)} IS NOT NULL AS isDate
       FROM events_raw ${sampled(scope)} AND JSONHas(properties, {key:String})
     ) ${BOUNDS}`;
  const params = { ...paramsOf(scope, every), key };
  const asked = shardsOf(warehouse).map((shard) => shard.query<Record<keyof ValueCounts, string>>(sql, { params }));
  const rows = (await Promise.all(asked)).flat();
  const number = (name: keyof ValueCounts) => rows.reduce((sum, row) => sum + Number(row[name]), 0);
  return {
    present: number("present"),
    strings: number("strings"),
    dates: number("dates"),
    integers: number("integers"),
    numbers: number("numbers"),
    booleans: number("booleans"),
  };
}

/** The narrowest type that keeps every value but null; undefined when there is none to go by. */
export function guessType({
  strings,
  dates,
  integers,
  numbers,
  booleans,
  present,
}: ValueCounts): PropertyType | undefined {
  if (present === 0) return undefined;
  if (strings > 0 && dates === strings && numbers + booleans === 0) return "DateTime";
  if (numbers > 0 && strings + booleans === 0) return integers === numbers ? "Int64" : "Float64";
  return booleans > 0 && strings + numbers === 0 ? "Bool" : "String";
}

async function sampleOf(warehouse: Warehouse, scope: Scope): Promise<BlockSample & { total: number }> {
  // The projection by_hour has them counted.
  const sql = `SELECT toString(count()) AS n FROM events_raw WHERE ${within("toStartOfHour(timestamp)", scope)}`;
  const params = paramsOf(scope);
  const asked = shardsOf(warehouse).map((shard) => shard.query<{ n: string }>(sql, { params }));
  const total = (await Promise.all(asked)).flat().reduce((sum, { n }) => sum + Number(n), 0);
  return { total, ...blockSampleOf(total, scope.sample ?? SAMPLE) };
}

/** Begins with a whole hour, so that `column` can be the time or its hour: the projection knows the one, the index the other. */
function within(column: "timestamp" | "toStartOfHour(timestamp)", { event }: Scope): string {
  const since = `${column} >= toStartOfHour(now() - toIntervalDay({days:UInt32}))`;
  return event === undefined ? since : `${since} AND event = {event:String}`;
}

/** The properties of other events are not read. */
function sampled(scope: Scope): string {
  return `PREWHERE ${IN_SAMPLE} AND ${within("timestamp", scope)} WHERE true`;
}

function paramsOf({ days, event }: Scope, every?: BlockSample): NonNullable<QueryOptions["params"]> {
  return { days, ...every, ...(event === undefined ? {} : { event }) };
}
