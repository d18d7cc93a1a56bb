// What was acknowledged against what is stored: read from the tables, believed from no counter.
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { CONTENT_SQL } from "./event-source.ts";

/** One row of `events`. */
export interface StoredRow {
  id: string;
  content: string;
}

export interface Comparison {
  /** Rows seen. */
  stored: number;
  /** Ids that were acknowledged and have no row. */
  lost: string[];
  /** Ids with more than one row, once for each row beyond the first. */
  doubled: string[];
  /** Ids of rows that say something else than what was sent. */
  altered: string[];
  /** Ids of rows that nobody sent. */
  unknown: string[];
}

export interface Traffic {
  /** By id: the event as text. */
  sent: ReadonlyMap<string, string>;
  acked: ReadonlySet<string>;
}

/** An event that was sent and not acknowledged may have a row or none, but not two. */
export function compare({ sent, acked }: Traffic, rows: Iterable<StoredRow>): Comparison {
  const comparison: Comparison = { stored: 0, lost: [], doubled: [], altered: [], unknown: [] };
  const seen = new Set<string>();
  for (const { id, content } of rows) {
    comparison.stored++;
    if (seen.has(id)) comparison.doubled.push(id);
    seen.add(id);
    const expected = sent.get(id);
    if (expected === undefined) comparison.unknown.push(id);
    else if (expected !== content) comparison.altered.push(id);
  }
  for (const id of acked) if (!seen.has(id)) comparison.lost.push(id);
  return comparison;
}

export interface Outcomes {
  duplicates: number;
  deadLetters: number;
}

const ROWS_PER_QUERY = 100_000;

export async function readRows(warehouse: Warehouse): Promise<StoredRow[]> {
  const parts = Math.max(1, Math.ceil((await countRows(warehouse)) / ROWS_PER_QUERY));
  const rows: StoredRow[] = [];
  for (let part = 0; part < parts; part++) {
    const some = await warehouse.query<StoredRow>(
      `SELECT toString(uuid) AS id, ${CONTENT_SQL} AS content FROM events WHERE cityHash64(uuid) % {parts:UInt32} = {part:UInt32}`,
      { params: { parts, part } },
    );
    for (const row of some) rows.push(row);
  }
  return rows;
}

/** `maxSeconds`: bound on the query, default the warehouse's own. */
export async function countRows(warehouse: Warehouse, maxSeconds?: number): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw", { maxSeconds });
  return Number(row?.n);
}

export async function readOutcomes(warehouse: Warehouse): Promise<Outcomes> {
  const [row] = await warehouse.query<{ duplicates: string; letters: string }>(
    "SELECT countIf(outcome IN ('duplicate', 'conflict')) AS duplicates, countIf(outcome = 'dead_letter') AS letters FROM log_outcomes",
  );
  return { duplicates: Number(row?.duplicates), deadLetters: Number(row?.letters) };
}

/** Events that have a value, and the sum of their values. */
export interface Sums {
  count: number;
  sum: number;
}

/** Of the rows themselves, and as the roll-up of five minutes has them. */
export async function readSums(warehouse: Warehouse): Promise<{ rows: Sums; rollup: Sums }> {
  const ask = async (sql: string): Promise<Sums> => {
    const [row] = await warehouse.query<{ n: string; s: number }>(sql);
    return { count: Number(row?.n ?? 0), sum: Number(row?.s ?? 0) };
  };
  return {
    rows: await ask("SELECT count() AS n, sum(value) AS s FROM event_points"),
    rollup: await ask("SELECT sum(r.count) AS n, sum(r.sum) AS s FROM points_rollup AS r WHERE origin = 'event'"),
  };
}

/** A sum of many terms depends on their order in its last digits. */
export function areEqual(one: Sums, other: Sums): boolean {
  return one.count === other.count && Math.abs(one.sum - other.sum) <= 1e-9 * Math.abs(one.sum);
}
