// Names of events with counts, and how many of a name came when.
import type { SampleBounds } from "#lib/warehouse/block-sample.ts";
import type { Runner } from "../queries/run.ts";
import { createBinder } from "../queries/sql.ts";
import { invalid } from "../rpc/errors.ts";
import { readBreakdown } from "./breakdown.ts";
import { countsSql, HOUR_MS, spread, sum, windowCountsSql } from "./counts.ts";
import { cutSql, eventSql, type Range } from "./fields.ts";

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
export const DAY_MS = 86_400_000;

const WINDOWS_MAX = 2_000;

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
  const counts = await countsOf(runner, asked, windows);
  if (trend.breakdown === "") {
    return { timesMs, series: [{ value: "", isRest: false, total: sum(counts), counts }], every: 1 };
  }
  return { timesMs, ...(await readBreakdown(runner, asked, counts)) };
}

async function countsOf({ query }: Runner, trend: TrendQuery, windows: number): Promise<number[]> {
  const bind = createBinder();
  const counts = windowCountsSql((window) => window, trend, eventSql(trend.event, bind), bind);
  const sql = `SELECT toString(key) AS w, toString(sum(n)) AS count FROM (${counts}) GROUP BY key`;
  const rows = await query<{ w: string; count: string }>({
    ...{ name: "trend", sql, params: bind.params, signal: trend.signal },
  });
  return spread(
    rows.map(({ w, count }) => [w, count]),
    windows,
  );
}
