// The tests' own audit, in SQL and independent of `millrace verify`: what is stored of one epoch against what was appended.
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface StoredAudit {
  rows: number;
  duplicates: number;
  deadLetters: number;
  /** "partition:offset" of what is neither a row nor an outcome. */
  lost: string[];
  /** "partition:offset" of what is more than one of them. */
  doubled: string[];
  /** "partition:offset" of what is stored and was never appended. */
  foreign: string[];
  /** "apiKey uuid" of caller-made ids with more than one row. */
  doubledIds: string[];
  /** "partition:offset" of dead_letter outcomes without exactly one copy of the bytes. */
  lostLetters: string[];
}

const NOTHING_WRONG = { lost: [], doubled: [], foreign: [], doubledIds: [], lostLetters: [] };

/** What toMatchObject must find: nothing lost, nothing double, and these numbers. */
export function exactlyOnce(numbers: { rows: number; duplicates?: number; deadLetters?: number }) {
  return { duplicates: 0, deadLetters: 0, ...numbers, ...NOTHING_WRONG };
}

/** `ends`: the log's end offset by partition; every partition begins at 0. */
export async function auditStored(
  warehouse: Warehouse,
  epoch: string,
  ends: ReadonlyMap<number, number>,
): Promise<StoredAudit> {
  const params = { epoch };
  const where = "log_epoch = {epoch:String}";
  const stored = await warehouse.query<{ at: string; fate: string; times: string }>(
    `SELECT concat(toString(log_partition), ':', toString(log_offset)) AS at, any(fate) AS fate, count() AS times FROM (
       SELECT log_partition, log_offset, 'row' AS fate FROM events_raw WHERE ${where}
       UNION ALL SELECT log_partition, log_offset, toString(outcome) AS fate FROM log_outcomes WHERE ${where}
     ) GROUP BY log_partition, log_offset`,
    { params },
  );
  const expected = new Set(
    [...ends].flatMap(([p, end]) => Array.from({ length: end }, (_, offset) => `${p}:${offset}`)),
  );
  const found = new Set(stored.map(({ at }) => at));
  const letters = await warehouse.query<{ at: string }>(
    `SELECT concat(toString(log_partition), ':', toString(log_offset)) AS at FROM dead_letters WHERE ${where}`,
    { params },
  );
  const ids = await warehouse.query<{ id: string }>(
    `SELECT concat(api_key, ' ', toString(uuid)) AS id FROM events_raw WHERE ${where} AND uuid_from_caller
     GROUP BY api_key, uuid HAVING count() > 1 ORDER BY id`,
    { params },
  );
  const withFate = (wanted: string) => stored.filter(({ fate }) => fate === wanted);
  const copies = (at: string) => letters.filter((letter) => letter.at === at).length;
  return {
    rows: withFate("row").length,
    duplicates: withFate("duplicate").length,
    deadLetters: withFate("dead_letter").length,
    lost: [...expected].filter((at) => !found.has(at)),
    doubled: stored.filter(({ times }) => Number(times) > 1).map(({ at }) => at),
    foreign: [...found].filter((at) => !expected.has(at)),
    doubledIds: ids.map(({ id }) => id),
    lostLetters: withFate("dead_letter").flatMap(({ at }) => (copies(at) === 1 ? [] : [at])),
  };
}
