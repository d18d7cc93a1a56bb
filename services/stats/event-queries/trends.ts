// Names of events with counts, and how many of a name came when.
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
const BREAKDOWN_EVENTS = 200_000;
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
    SELECT ${cutSql("event")} AS e, toString(count()) AS n, toString(toUnixTimestamp64Milli(max(timestamp))) AS last,
      toString(sum(count()) OVER ()) AS total, toString(count() OVER ()) AS names
    FROM events_raw WHERE ${rangeSql(range, bind)} ${fits}
    GROUP BY event ORDER BY count() DESC, event LIMIT ${bind.integer(limit)})`;
  type Row = Record<"e" | "n" | "last" | "total" | "names", string>;
  const rows = await query<Row>({ name: "event_names", sql, params: bind.params, signal });
  return {
    names: rows.map(({ e, n, last }) => ({ event: e, count: Number(n), lastMs: Number(last) })),
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
  const sql = `SELECT ${windowSql(range, stepMs, bind)} AS place, toString(place) AS w, toString(count()) AS n FROM events_raw
    WHERE ${rangeSql(range, bind)} ${eventSql(event, bind)} GROUP BY place`;
  const rows = await query<{ w: string; n: string }>({ name: "trend", sql, params: bind.params, signal });
  return spread(rows, windows, 1);
}

async function brokenDown(runner: Runner, trend: TrendQuery, windows: number) {
  const { range, event, stepMs, signal } = trend;
  const all = await countsOf(runner, trend, windows);
  const every = Math.max(1, Math.ceil(sum(all) / BREAKDOWN_EVENTS));
  const bind = createBinder();
  const raw = `JSONExtractRaw(properties, ${bind.text(trend.breakdown)})`;
  const sql = `SELECT * FROM (
    SELECT leftUTF8(if(startsWith(raw, '"'), JSONExtractString(raw), raw), ${VALUE_CHARS_MAX}) AS v, sumMap([w], [toUInt64(1)]) AS byWindow,
      arrayMap(n -> toString(n), byWindow.1) AS places, arrayMap(n -> toString(n), byWindow.2) AS counts
    FROM (SELECT ${windowSql(range, stepMs, bind)} AS w, ${raw} AS raw FROM events_raw
      PREWHERE cityHash64(uuid) % ${bind.integer(every)} = 0 WHERE ${rangeSql(range, bind)} ${eventSql(event, bind)})
    GROUP BY v ORDER BY count() DESC, v LIMIT ${SERIES_MAX})`;
  type Row = { v: string; places: string[]; counts: string[] };
  const rows = await runner.query<Row>({ name: "trend_values", sql, params: bind.params, signal });
  const series = rows.map(({ v, places, counts: found }): TrendSeries => {
    const counts = spread(
      places.map((w, i) => ({ w, n: found[i] ?? "0" })),
      windows,
      every,
    );
    return { value: v, isRest: false, total: sum(counts), counts };
  });
  if (rows.length < SERIES_MAX) return { series, every };
  const rest = all.map((count, i) => Math.max(0, count - sum(series.map(({ counts }) => counts[i] ?? 0))));
  return {
    series: sum(rest) === 0 ? series : [...series, { value: "", isRest: true, total: sum(rest), counts: rest }],
    every,
  };
}

/** Number of the window. */
function windowSql({ fromMs }: Range, stepMs: number, bind: Binder): string {
  return `intDiv(toUnixTimestamp64Milli(timestamp) - ${bind.integer(fromMs)}, ${bind.integer(stepMs)})`;
}

function spread(rows: readonly { w: string; n: string }[], windows: number, every: number): number[] {
  const counts = new Array<number>(windows).fill(0);
  for (const { w, n } of rows) counts[Number(w)] = Number(n) * every;
  return counts;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
