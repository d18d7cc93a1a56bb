// Names of events with counts, and how many of a name came when.
import { blockSampleOf, IN_SAMPLE, type SampleBounds } from "#lib/warehouse/block-sample.ts";
import type { Runner } from "../queries/run.ts";
import { type Binder, createBinder } from "../queries/sql.ts";
import { invalid } from "../rpc/errors.ts";
import { cutSql, eventSql, type Range, rangeSql } from "./fields.ts";

export interface NamesQuery {
  range: Range;
  contains: string;
  limit: number;
  signal?: AbortSignal | undefined;
}

export interface Names {
  names: { event: string; count: number; lastMs: number }[];
  totalEvents: number;
  totalNames: number;
}

export interface TrendQuery {
  range: Range;
  /** "": all. */
  event: string;
  stepMs: number;
  /** Name of a property; "": one series. */
  breakdown: string;
  /** Of a breakdown. */
  sample?: SampleBounds;
  signal?: AbortSignal | undefined;
}

export interface TrendSeries {
  value: string;
  isRest: boolean;
  total: number;
  counts: number[];
}

export interface Trend {
  timesMs: number[];
  series: TrendSeries[];
  /** 1: every event was looked at. */
  every: number;
}

export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

const WINDOWS_MAX = 2_000;
const SERIES_MAX = 10;
/** A breakdown reads properties, which are most of what is stored. */
const SAMPLE: SampleBounds = { blocks: 25, rows: 20_000 };
/** Blocks have one name each: a sample of them does not stand for all names. */
const UNNAMED_EVENTS_MAX = 400_000;
const VALUE_CHARS_MAX = 200;

/** The step for a range whose caller names none. */
export function stepFor({ fromMs, toMs }: Range): number {
  const length = toMs - fromMs;
  if (length <= 3 * HOUR_MS) return MINUTE_MS;
  return length <= 14 * DAY_MS ? HOUR_MS : DAY_MS;
}

/** Rejects with StatsQueryError, or with the reason of the signal. */
export async function readNames({ query }: Runner, { range, contains, limit, signal }: NamesQuery): Promise<Names> {
  const bind = createBinder();
  const fits = contains === "" ? "" : `AND positionCaseInsensitiveUTF8(event, ${bind.text(contains)}) > 0`;
  const sql = `SELECT * FROM (
    SELECT ${cutSql("key")} AS e, toString(sum(n)) AS count, toString(toUnixTimestamp64Milli(max(last))) AS last,
      toString(sum(sum(n)) OVER ()) AS total, toString(count() OVER ()) AS names
    FROM (${countsSql("event", range, fits, bind)})
    GROUP BY key ORDER BY sum(n) DESC, key LIMIT ${bind.integer(limit)})`;
  type Row = Record<"e" | "count" | "last" | "total" | "names", string>;
  const rows = await query<Row>({ name: "event_names", sql, params: bind.params, signal });
  return {
    names: rows.map(({ e, count, last }) => ({ event: e, count: Number(count), lastMs: Number(last) })),
    totalEvents: Number(rows[0]?.total ?? 0),
    totalNames: Number(rows[0]?.names ?? 0),
  };
}

/** Rejects with StatsQueryError, or with the reason of the signal. */
export async function readTrend(runner: Runner, trend: TrendQuery): Promise<Trend> {
  const { stepMs } = trend;
  // The first window is whole, or its bar would look like a rise.
  const fromMs = Math.floor(trend.range.fromMs / stepMs) * stepMs;
  const range = { fromMs, toMs: trend.range.toMs };
  const windows = Math.ceil((range.toMs - fromMs) / stepMs);
  if (windows > WINDOWS_MAX) {
    throw invalid(
      `interval: makes ${windows} windows of this range; at most ${WINDOWS_MAX} are answered: ask for a longer interval`,
    );
  }
  const timesMs = Array.from({ length: windows }, (_, i) => fromMs + i * stepMs);
  const asked = { ...trend, range };
  if (trend.breakdown === "") {
    const counts = await countsOf(runner, asked, windows);
    return { timesMs, series: [{ value: "", isRest: false, total: sum(counts), counts }], every: 1 };
  }
  const { series, every } = await brokenDown(runner, asked, windows);
  return { timesMs, series, every };
}

async function countsOf({ query }: Runner, { range, event, stepMs, signal }: TrendQuery, windows: number) {
  const bind = createBinder();
  const isOfHours = stepMs % HOUR_MS === 0;
  const counts = isOfHours
    ? countsSql(windowSql("toStartOfHour(timestamp)", range, stepMs, bind), range, eventSql(event, bind), bind)
    : selectCounts(windowSql("timestamp", range, stepMs, bind), rangeSql(range, bind), eventSql(event, bind));
  const sql = `SELECT toString(key) AS w, toString(sum(n)) AS count FROM (${counts}) GROUP BY key`;
  const rows = await query<{ w: string; count: string }>({ name: "trend", sql, params: bind.params, signal });
  return spread(
    rows.map(({ w, count }) => [w, count]),
    windows,
  );
}

/**
 * The most frequent values in a sample, as their shares of what came in each window. A window that the sample does not
 * reach is in the rest.
 */
async function brokenDown(runner: Runner, trend: TrendQuery, windows: number) {
  const { range, event, stepMs, sample = SAMPLE, signal } = trend;
  const all = await countsOf(runner, trend, windows);
  const total = sum(all);
  if (event === "" && total > UNNAMED_EVENTS_MAX) {
    throw invalid(
      `breakdown: ${total} events of all names are too many; name an event, or ask for a time with at most ${UNNAMED_EVENTS_MAX}`,
    );
  }
  const { everyBlock, everyRow } = blockSampleOf(total, sample);
  const bind = createBinder();
  const raw = `JSONExtractRaw(properties, ${bind.text(trend.breakdown)})`;
  const values = `SELECT leftUTF8(if(startsWith(raw, '"'), JSONExtractString(raw), raw), ${VALUE_CHARS_MAX}) AS v, w, count() AS n
    FROM (SELECT ${windowSql("timestamp", range, stepMs, bind)} AS w, ${raw} AS raw FROM events_raw
      PREWHERE ${IN_SAMPLE} AND ${rangeSql(range, bind)} ${eventSql(event, bind)})
    GROUP BY v, w`;
  // The last row is everything else that was looked at.
  const sql = `SELECT any(v) AS value, rank, sumMap(ws, ns) AS m, arrayMap(w -> toString(w), m.1) AS places, arrayMap(n -> toString(n), m.2) AS counts
    FROM (SELECT v, groupArray(w) AS ws, groupArray(n) AS ns, least(row_number() OVER (ORDER BY sum(n) DESC, v), ${SERIES_MAX + 1}) AS rank
      FROM (${values}) GROUP BY v)
    GROUP BY rank ORDER BY rank`;
  type Row = { value: string; rank: string; places: string[]; counts: string[] };
  const params = { ...bind.params, everyBlock, everyRow };
  const rows = await runner.query<Row>({ name: "trend_values", sql, params, signal });
  const sampled = rows.map(({ value, places, counts }) => ({
    value,
    counts: spread(
      places.map((w, i) => [w, counts[i] ?? "0"]),
      windows,
    ),
  }));
  const looked = all.map((_, w) => sum(sampled.map(({ counts }) => counts[w] ?? 0)));
  const series = sampled.slice(0, SERIES_MAX).map(({ value, counts }): TrendSeries => {
    const shares = counts.map((n, w) => (n === 0 ? 0 : Math.round(((all[w] ?? 0) * n) / (looked[w] ?? n))));
    return { value, isRest: false, total: sum(shares), counts: shares };
  });
  const every = everyBlock * everyRow;
  const hasRest = sampled.length > SERIES_MAX || all.some((n, w) => n > 0 && looked[w] === 0);
  if (!hasRest) return { series, every };
  const rest = all.map((n, w) => Math.max(0, n - sum(series.map(({ counts }) => counts[w] ?? 0))));
  return { series: [...series, { value: "", isRest: true, total: sum(rest), counts: rest }], every };
}

/**
 * Rows of `key`, `n` and `last`, to be summed up by key: whole hours as the projection by_hour has them counted, what is left
 * of the first and the last hour from the events. `key` is made of `event` or of the hour.
 */
function countsSql(key: string, range: Range, conditions: string, bind: Binder): string {
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

/** Number of the window that a time is in. */
function windowSql(time: string, { fromMs }: Range, stepMs: number, bind: Binder): string {
  return `intDiv(toUnixTimestamp64Milli(toDateTime64(${time}, 3, 'UTC')) - ${bind.integer(fromMs)}, ${bind.integer(stepMs)})`;
}

function spread(rows: readonly (readonly [window: string, n: string])[], windows: number): number[] {
  const counts = new Array<number>(windows).fill(0);
  for (const [w, n] of rows) counts[Number(w)] = Number(n);
  return counts;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
