// What ClickHouse holds of a partition of the log, asked in ways whose cost does not grow with what is wrong. Of a cluster
// the partition's shard is asked, which has all of it and nothing of the others.

import type { RowTable } from "#lib/ledger/stored-topics.ts";
import { keptSince } from "#lib/warehouse/retention.ts";
import { quoteIdentifier } from "#lib/warehouse/sql.ts";
import { shardsOf, type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";

/** Offsets are examined in blocks of this many: one scan tells the good blocks, the others are looked into one by one. */
export const blockOffsets = 1_000_000;

// Bounds of one answer. What is beyond them is counted, not listed.
const rangesListedMax = 10_000;
const examplesMax = 20;
/** Ids compared at a time: some tens of bytes each while they are grouped. */
const idsPerPassMax = 5_000_000;

const querySecondsMax = 600;

/** One incarnation of one topic. */
export interface LogIdentity {
  epoch: string;
  topic: string;
}

export interface OffsetRange {
  from: number;
  /** The last one. */
  to: number;
}

export interface Extent {
  lowest: number;
  highest: number;
}

/** A shard has rows or outcomes of a partition that belongs to another one; the message says which. */
export class MisplacedPartitionError extends Error {
  override readonly name = "MisplacedPartitionError";
}

/** Sums over one block. `hash` is that of its set of offsets; equal counts and hashes are equal sets. */
export interface BlockSum {
  block: number;
  count: number;
  hash: string;
  rows: number;
  duplicates: number;
  /** Other events under an id that was used before. */
  conflicts: number;
  deadLetters: number;
  erased: number;
  /** Given up by a person. */
  lost: number;
  /** Of transactions: control records, and what was aborted. */
  aborted: number;
}

export interface DoubledOffset {
  offset: number;
  /** What it is: "row" or an outcome, one entry for each. */
  kinds: string[];
}

export interface DuplicateId {
  apiKey: string;
  id: string;
  times: number;
  /** Two of the places: partition:offset. */
  first: string;
  last: string;
}

export interface StoredLog {
  /**
   * By partition, of the rows and outcomes that arrived at or after the time, milliseconds. Rejects with
   * MisplacedPartitionError.
   */
  extents(sinceMs?: number): Promise<Map<number, Extent>>;
  /** When a TTL removes rows or outcomes: what arrived before this time, milliseconds, may be gone by right. */
  keptSince(): Promise<number | undefined>;
  /** First offset not known to be accounted for, by partition, as the consumer last noted it. */
  progress(): Promise<Map<number, number>>;
  /** By partition: the lowest offset that a consumer was given of what arrived at or after the time, milliseconds. */
  firstGiven(sinceMs?: number): Promise<Map<number, number>>;
  /** What is stored of [from, to), block by block, and what would be if nothing were wrong. */
  blocks(
    partition: number,
    from: number,
    to: number,
  ): Promise<{ stored: BlockSum[]; expected: Map<number, BlockHash> }>;
  missing(partition: number, from: number, to: number): Promise<{ count: number; ranges: OffsetRange[] }>;
  doubled(partition: number, from: number, to: number): Promise<{ count: number; examples: DoubledOffset[] }>;
  countFrom(partition: number, from: number): Promise<number>;
  /** By offset, of [from, to]: the error class of a dead letter of which the outcome is there and the bytes are not. */
  withoutBytes(partition: number, from: number, to: number): Promise<Map<number, string>>;
  /** Rows that no topic of Millrace has brought: inserted by hand, or copied. */
  unplaced(): Promise<number>;
  /** Rows of another epoch that are rows of this one as well: the same record, stored under both. */
  alsoUnder(epoch: string): Promise<number>;
  /** Caller-made ids that are more than one row; of a cluster, on one shard. */
  duplicateIds(): Promise<{ count: number; examples: DuplicateId[] }>;
}

export type BlockHash = Pick<BlockSum, "count" | "hash">;

const ofLog = "log_epoch = {epoch:String} AND log_topic = {topic:String}";
const ofPartition = `${ofLog} AND log_partition = {partition:UInt32}`;
const inRange = `${ofPartition} AND log_offset >= {from:UInt64} AND log_offset < {to:UInt64}`;

/** An outcome that promises the bytes of a record, which are not there, though they have not expired. */
const withoutBytesIn = (
  where: string,
) => `outcome = 'dead_letter' AND log_time >= fromUnixTimestamp64Milli({lettersSince:Int64})
    AND log_offset NOT IN (SELECT log_offset FROM dead_letters WHERE ${where})`;

/**
 * Rows and outcomes together: the offset of each and what it is. "erased" is said before the row or the dead letter goes,
 * so while an erasure is not finished, it alone counts; after it, a row beside it is a fault. Said twice it is one.
 */
function accounted(where: string, { name }: RowTable, { database }: Warehouse): string {
  const erased = `SELECT log_offset FROM log_outcomes WHERE ${where} AND outcome = 'erased'`;
  // With its database: it is beside a shard's own tables.
  const erasures = `${quoteIdentifier(database)}.erasures`;
  const unfinished = `SELECT toString(erasure_id) FROM ${erasures} FINAL WHERE finished_at IS NULL`;
  const remains = `${where} AND log_offset NOT IN (${erased} AND detail IN (${unfinished}))`;
  return `(SELECT log_offset AS o, 'row' AS kind FROM ${name} WHERE ${remains}
    UNION ALL SELECT log_offset AS o, outcome AS kind FROM log_outcomes
      WHERE ${remains} AND outcome != 'erased' AND NOT (${withoutBytesIn(where)})
    UNION ALL SELECT DISTINCT log_offset AS o, 'erased' AS kind FROM log_outcomes WHERE ${where} AND outcome = 'erased')`;
}

type Ask = <Row>(from: Warehouse, sql: string, params?: Record<string, unknown>) => Promise<Row[]>;

export function createStoredLog(warehouse: Warehouse, log: LogIdentity, table: RowTable): StoredLog {
  const shardOf = (partition: number) => warehouseOf(warehouse, partition);
  const shards = shardsOf(warehouse);
  const keptBy = async (tables: readonly string[]): Promise<number | undefined> => {
    const each = await Promise.all(shards.map((shard) => keptSince(shard, tables)));
    const limited = each.filter((since) => since !== undefined);
    return limited.length === 0 ? undefined : Math.max(...limited);
  };
  let lettersKept: Promise<number | undefined> | undefined;
  const ask: Ask = async (from, sql, params = {}) => {
    lettersKept ??= keptBy(["dead_letters"]);
    const lettersSince = Math.ceil((await lettersKept) ?? 0);
    return from.query(sql, { maxSeconds: querySecondsMax, params: { ...log, lettersSince, ...params } });
  };
  const accountedIn = (where: string) => accounted(where, table, warehouse);

  return {
    keptSince: () => keptBy([table.name, "log_outcomes"]),
    async extents(sinceMs = 0) {
      const where = `${ofLog} AND log_time >= fromUnixTimestamp64Milli({since:Int64})`;
      const select = (from: string) =>
        `SELECT log_partition AS p, min(log_offset) AS lo, max(log_offset) AS hi FROM ${from} WHERE ${where} GROUP BY p`;
      const extents = new Map<number, Extent>();
      for (const [index, shard] of shards.entries()) {
        const rows = await ask<{ p: number; lowest: string; highest: string }>(
          shard,
          `SELECT p, toString(min(lo)) AS lowest, toString(max(hi)) AS highest
           FROM (${select(table.name)} UNION ALL ${select("log_outcomes")}) GROUP BY p`,
          { since: Math.ceil(sinceMs) },
        );
        for (const { p, lowest, highest } of rows) {
          const partition = Number(p);
          if (shardOf(partition) !== shard) throw misplaced(log.topic, partition, index, shards.length);
          extents.set(partition, { lowest: Number(lowest), highest: Number(highest) });
        }
      }
      return extents;
    },
    async progress() {
      const rows = await ask<{ p: number; next: string }>(
        warehouse,
        `SELECT log_partition AS p, toString(max(next_offset)) AS next FROM log_progress WHERE ${ofLog} GROUP BY p`,
      );
      return new Map(rows.map(({ p, next }) => [Number(p), Number(next)]));
    },
    async firstGiven(sinceMs = 0) {
      const rows = await ask<{ p: number; first: string }>(
        warehouse,
        `SELECT log_partition AS p, toString(min(first_offset)) AS first FROM log_hours
         WHERE ${ofLog} AND hour >= fromUnixTimestamp64Milli({since:Int64}) GROUP BY p`,
        { since: Math.ceil(sinceMs) },
      );
      return new Map(rows.map(({ p, first }) => [Number(p), Number(first)]));
    },
    async blocks(partition, from, to) {
      const params = { partition, from, to, size: blockOffsets };
      type Row = Record<keyof BlockSum, string>;
      const stored = await ask<Row>(
        shardOf(partition),
        `SELECT toString(intDiv(o, {size:UInt64})) AS block, toString(count()) AS count,
                toString(sum(cityHash64(o))) AS hash, toString(countIf(kind = 'row')) AS rows,
                toString(countIf(kind = 'duplicate')) AS duplicates, toString(countIf(kind = 'erased')) AS erased,
                toString(countIf(kind = 'conflict')) AS conflicts,
                toString(countIf(kind = 'dead_letter')) AS deadLetters, toString(countIf(kind = 'lost')) AS lost,
                toString(countIf(kind = 'aborted')) AS aborted
         FROM ${accountedIn(inRange)} GROUP BY intDiv(o, {size:UInt64})`,
        params,
      );
      const expected = await ask<Record<keyof BlockHash | "block", string>>(
        shardOf(partition),
        `SELECT toString(intDiv(number, {size:UInt64})) AS block, toString(count()) AS count,
                toString(sum(cityHash64(number))) AS hash
         FROM numbers({from:UInt64}, {length:UInt64}) GROUP BY intDiv(number, {size:UInt64})`,
        { ...params, length: to - from },
      );
      return {
        stored: stored.map(({ hash, ...sums }) => ({ hash, ...numbersOf(sums) })),
        expected: new Map(expected.map(({ block, count, hash }) => [Number(block), { count: Number(count), hash }])),
      };
    },
    async missing(partition, from, to) {
      const params = { partition, from, to };
      const [sum] = await ask<{ n: string }>(
        shardOf(partition),
        `SELECT toString(uniqExact(o)) AS n FROM ${accountedIn(inRange)}`,
        params,
      );
      // The end is added as an offset of its own, so that a gap at the end is a gap before something.
      const ranges = await ask<{ first: string; last: string }>(
        shardOf(partition),
        `SELECT toString(previous + 1) AS first, toString(o - 1) AS last
         FROM (
           SELECT o, lagInFrame(o, 1, {before:Int64}) OVER (ORDER BY o ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous
           FROM (SELECT DISTINCT toInt64(o) AS o FROM ${accountedIn(inRange)} UNION ALL SELECT {to:Int64} AS o)
         )
         WHERE o > previous + 1 ORDER BY o LIMIT {limit:UInt32}`,
        { ...params, before: from - 1, limit: rangesListedMax },
      );
      return {
        count: to - from - Number(sum?.n ?? 0),
        ranges: ranges.map(({ first, last }) => ({ from: Number(first), to: Number(last) })),
      };
    },
    async doubled(partition, from, to) {
      const rows = await ask<{ offset: string; kinds: string[]; total: string }>(
        shardOf(partition),
        `SELECT toString(o) AS offset, kinds, toString(count() OVER ()) AS total
         FROM (SELECT o, arraySort(groupArray(10)(kind)) AS kinds FROM ${accountedIn(inRange)} GROUP BY o HAVING count() > 1)
         ORDER BY o LIMIT {limit:UInt32}`,
        { partition, from, to, limit: examplesMax },
      );
      const examples = rows.map(({ offset, kinds }) => ({ offset: Number(offset), kinds }));
      return { count: Number(rows[0]?.total ?? 0), examples };
    },
    async countFrom(partition, from) {
      const where = `${ofPartition} AND log_offset >= {from:UInt64}`;
      const [row] = await ask<{ n: string }>(
        shardOf(partition),
        `SELECT toString(count()) AS n FROM ${accountedIn(where)}`,
        { partition, from },
      );
      return Number(row?.n ?? 0);
    },
    async withoutBytes(partition, from, to) {
      const rows = await ask<{ o: string; detail: string }>(
        shardOf(partition),
        `SELECT toString(log_offset) AS o, detail FROM log_outcomes WHERE ${inRange} AND ${withoutBytesIn(inRange)}`,
        { partition, from, to: to + 1 },
      );
      return new Map(rows.map(({ o, detail }) => [Number(o), detail]));
    },
    async unplaced() {
      const sql = `SELECT toString(count()) AS n FROM ${table.name} WHERE log_topic != {topic:String}`;
      const each = await Promise.all(shards.map((shard) => ask<{ n: string }>(shard, sql)));
      return each.reduce((sum, [row]) => sum + Number(row?.n ?? 0), 0);
    },
    async alsoUnder(other) {
      const place = "log_partition, log_offset, log_time";
      const heads = `SELECT log_partition, max(log_offset), argMax(log_time, log_offset) FROM ${table.name}
        WHERE log_epoch = {other:String} AND log_topic = {topic:String} GROUP BY log_partition`;
      const rowsOf = (epoch: string) =>
        `FROM ${table.name} WHERE log_epoch = {${epoch}:String} AND log_topic = {topic:String}`;
      let count = 0;
      for (const shard of shards) {
        // Incarnations that have the last record of one in common are of one log. Else nothing has to be compared.
        const [same] = await ask<{ n: string }>(
          shard,
          `SELECT toString(count()) AS n ${rowsOf("epoch")} AND (${place}) IN (${heads})`,
          { other },
        );
        if (Number(same?.n ?? 0) === 0) continue;
        const [both] = await ask<{ n: string }>(
          shard,
          `SELECT toString(count()) AS n ${rowsOf("other")} AND (${place}, uuid) IN (SELECT ${place}, uuid ${rowsOf("epoch")})`,
          { other },
        );
        count += Number(both?.n ?? 0);
      }
      return count;
    },
    async duplicateIds() {
      const found = await Promise.all(shards.map((shard) => duplicateIds(ask, shard, table)));
      return {
        count: found.reduce((sum, { count }) => sum + count, 0),
        examples: found.flatMap(({ examples }) => examples).slice(0, examplesMax),
      };
    },
  };
}

function misplaced(topic: string, partition: number, shard: number, shards: number): MisplacedPartitionError {
  return new MisplacedPartitionError(
    `partition ${partition} of ${topic} is stored on shard ${shard + 1}, and belongs on shard ${(partition % shards) + 1} of ` +
      `${shards}: if the order or the number of the shards in CLICKHOUSE_SHARD_URLS has changed, put it back`,
  );
}

function numbersOf<K extends string>(texts: Record<K, string>): Record<K, number> {
  return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, Number(text)])) as Record<K, number>;
}

/** In as many passes over the ids as it takes to hold one pass's groups in memory. */
async function duplicateIds(ask: Ask, shard: Warehouse, { name, isFromCaller, apiKey }: RowTable) {
  const where = `${ofLog} AND ${isFromCaller}`;
  const inPass = `${where} AND cityHash64(uuid) % {passes:UInt32} = {pass:UInt32}`;
  // Grouping by a hash of eight bytes first leaves next to nothing for the grouping by the ids themselves.
  const candidates = `SELECT cityHash64(${apiKey}, uuid) AS h FROM ${name} WHERE ${inPass} GROUP BY h HAVING count() > 1`;
  const [sum] = await ask<{ n: string }>(shard, `SELECT toString(count()) AS n FROM ${name} WHERE ${where}`);
  const passes = Math.ceil(Number(sum?.n ?? 0) / idsPerPassMax);
  const examples: DuplicateId[] = [];
  let count = 0;
  for (let pass = 0; pass < passes; pass += 1) {
    // One offset stored twice is no second event; it is reported as doubled.
    const rows = await ask<{ apiKey: string; id: string; times: string; first: string; last: string; total: string }>(
      shard,
      `SELECT k AS apiKey, toString(uuid) AS id, toString(n) AS times, toString(count() OVER ()) AS total,
              concat(toString(a.1), ':', toString(a.2)) AS first, concat(toString(b.1), ':', toString(b.2)) AS last
       FROM (
         SELECT ${apiKey} AS k, uuid, count() AS n, min((log_partition, log_offset)) AS a, max((log_partition, log_offset)) AS b
         FROM ${name} WHERE ${inPass} AND cityHash64(${apiKey}, uuid) IN (${candidates})
         GROUP BY k, uuid HAVING a != b
       )
       ORDER BY a, id LIMIT {limit:UInt32}`,
      { passes, pass, limit: examplesMax },
    );
    count += Number(rows[0]?.total ?? 0);
    for (const { apiKey, id, times, first, last } of rows.slice(0, examplesMax - examples.length)) {
      examples.push({ apiKey, id, times: Number(times), first, last });
    }
  }
  return { count, examples };
}
