// SQL of how many events came when: whole hours from the projection by_hour, the rest from the events; and its answers.
import type { Binder } from "../queries/sql.ts";
import { type Range, rangeSql } from "./fields.ts";

export const HOUR_MS = 3_600_000;

/**
 * Rows of `key`, `n` and `last`, to be summed up by key: whole hours as the projection by_hour has them counted, what is left
 * of the first and the last hour from the events. `key` is made of `event` or of the hour.
 */
export function countsSql(key: string, range: Range, conditions: string, bind: Binder): string {
  const fromMs = Math.ceil(range.fromMs / HOUR_MS) * HOUR_MS;
  const toMs = Math.floor(range.toMs / HOUR_MS) * HOUR_MS;
  if (fromMs >= toMs) return selectCounts(key, rangeSql(range, bind), conditions);
  const at = (ms: number) => `fromUnixTimestamp64Milli(${bind.integer(ms)}, 'UTC')`;
  const hour = "toStartOfHour(timestamp)";
  const hours = `${hour} >= ${at(fromMs)} AND ${hour} < ${at(toMs)} AND is_deleted = 0`;
  const ends = [
    { fromMs: range.fromMs, toMs: fromMs },
    { fromMs: toMs, toMs: range.toMs },
  ].filter((end) => end.fromMs < end.toMs);
  return [hours, ...ends.map((end) => rangeSql(end, bind))]
    .map((where) => selectCounts(key, where, conditions))
    .join(" UNION ALL ");
}

function selectCounts(key: string, where: string, conditions: string): string {
  return `SELECT ${key} AS key, count() AS n, max(timestamp) AS last FROM events_raw WHERE ${where} ${conditions} GROUP BY key`;
}

/** The same by window; `keyOf` makes the key of the window's number. */
export function windowCountsSql(
  keyOf: (window: string) => string,
  { range, stepMs }: { range: Range; stepMs: number },
  conditions: string,
  bind: Binder,
): string {
  return stepMs % HOUR_MS === 0
    ? countsSql(keyOf(windowSql("toStartOfHour(timestamp)", range, stepMs, bind)), range, conditions, bind)
    : selectCounts(keyOf(windowSql("timestamp", range, stepMs, bind)), rangeSql(range, bind), conditions);
}

/** Number of the window that a time is in. */
export function windowSql(time: string, { fromMs }: Range, stepMs: number, bind: Binder): string {
  return `intDiv(toUnixTimestamp64Milli(toDateTime64(${time}, 3, 'UTC')) - ${bind.integer(fromMs)}, ${bind.integer(stepMs)})`;
}

export function spread(rows: readonly (readonly [window: string, n: string])[], windows: number): number[] {
  const counts = new Array<number>(windows).fill(0);
  for (const [w, n] of rows) counts[Number(w)] = Number(n);
  return counts;
}

export function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
