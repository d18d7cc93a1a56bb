// Every question about metrics that callers can ask, whatever route or protocol they come by. What arrived lately and
// short intervals are read from the points themselves (points_all); all else from their roll-up (points_rollup). Both
// hold points of relays and values of events.
import { StatsQueryError } from "./errors.ts";
import { createRunner, type Runner, type RunnerOptions } from "./run.ts";
import {
  type Aggregation,
  type Binder,
  createBinder,
  type Filters,
  filtersSql,
  overRollup,
  overValues,
} from "./sql.ts";

/** Grain of the roll-up, milliseconds. */
export const ROLLUP_MS = 300_000;

/** What is selected by: a metric, and the tags its points have. */
export interface Selection {
  metric: string;
  filters?: Filters | undefined;
  /** Stops the query when the caller has gone. */
  signal?: AbortSignal | undefined;
}

export interface LatestQuery extends Selection {
  /** Tag names; each combination of their values has a result of its own. None: everything is merged into one. */
  groupBy?: readonly string[] | undefined;
  aggregations: readonly Aggregation[];
}

export interface NewestQuery extends Selection {
  /** Names of tags whose values are wanted with each point. */
  tags: readonly string[];
  limit: number;
}

export interface SeriesQuery extends LatestQuery {
  /** Milliseconds since 1970, inclusive. */
  fromMs: number;
  /** Milliseconds since 1970, exclusive. */
  toMs: number;
  /** Length of a window; windows are aligned to 1970. */
  intervalMs: number;
  /**
   * What a window is made of. "points": each of them counts once. `meansOfMs`, a multiple of ROLLUP_MS: the means of the
   * points of each series in windows of that length, each of which counts once, at the window's begin.
   */
  over?: "points" | { meansOfMs: number } | undefined;
}

/** A window that has points. */
export interface Window {
  /** Its begin, milliseconds since 1970. */
  timeMs: number;
  /** Value of each tag that was grouped by; "" when absent. */
  group: Readonly<Record<string, string>>;
  /** In the order of the aggregations asked for; null when it is no number, as the deviation of a single value. */
  values: readonly (number | null)[];
}

export interface Point {
  timeMs: number;
  value: number;
  tags: Readonly<Record<string, string>>;
}

/** All reject with StatsQueryError, or with the reason of a fired signal. */
export interface StatsQueries {
  /** Names of metrics, sorted. */
  metrics(options?: Partial<Omit<Selection, "metric">>): Promise<string[]>;
  /** Names of tags, sorted; of one metric when it is given. */
  tags(options?: Partial<Selection>): Promise<string[]>;
  /** Values of one tag, sorted, without the empty one. */
  tagValues(tag: string, options?: Partial<Selection>): Promise<string[]>;
  /** Of each group the newest window of POLL_INTERVAL among those of the last polls. */
  latest(query: LatestQuery): Promise<Window[]>;
  /** Points of the last polls, newest first. */
  newest(query: NewestQuery): Promise<Point[]>;
  /** Windows that have points, by group and time. */
  series(query: SeriesQuery): Promise<Window[]>;
}

export interface StatsQueriesOptions extends RunnerOptions {
  /** Whose turns are shared with other questions; absent: one of its own. */
  runner?: Runner | undefined;
  /** POLL_INTERVAL, milliseconds; 0 is taken for a minute, as relays do. */
  pollMs: number;
  /** FLUSH_INTERVAL of the consumers, milliseconds. */
  flushMs: number;
  /** POINTS_RETENTION, milliseconds; undefined: for ever. */
  pointsKeptMs: number | undefined;
  nowMs?: (() => number) | undefined;
}

const POLL_MS_DEFAULT = 60_000;
/** What a point needs beside its flush: the answer to the poll, the append, the insert. */
const ARRIVAL_MARGIN_MS = 2_000;
/** Bounds the partitions to look into, however wrong the clocks of log and stats are. */
const ARRIVAL_MS_MAX = 86_400_000;
const GROUP_TAGS_MAX = 10;
const UINT32_MAX = 4_294_967_295;

/**
 * What points_rollup has, from its first column: FINAL is asked for those metrics only of which a row was deleted. What is not
 * rolled up yet is among the points themselves. Without GLOBAL, a cluster refuses a Distributed table within another.
 */
const DELETED_SQL = "SELECT metric FROM points_5m WHERE is_deleted = 1";
const METRICS_SQL = `SELECT DISTINCT metric AS n FROM (
    SELECT metric FROM points_5m WHERE metric GLOBAL NOT IN (${DELETED_SQL})
    UNION ALL SELECT metric FROM points_rollup WHERE metric GLOBAL IN (${DELETED_SQL})
    UNION ALL SELECT metric FROM points_all WHERE log_time >= (
      SELECT min(if(updated_at < now64(3) - INTERVAL 10 SECOND, next_slot, previous_slot)) FROM rollup_progress FINAL)
  ) WHERE n != '' ORDER BY n`;

export function createStatsQueries(options: StatsQueriesOptions): StatsQueries {
  const { flushMs, pointsKeptMs, nowMs = Date.now } = options;
  const pollMs = options.pollMs || POLL_MS_DEFAULT;
  const lookBackMs = Math.max(2 * pollMs, pollMs + flushMs + ARRIVAL_MARGIN_MS);
  const { query: run } = options.runner ?? createRunner(options);

  /** What the last polls brought: strictly newer than the look-back, and not from a future that clocks cannot explain. */
  function recentSql({ metric, filters = {} }: Selection, bind: Binder): string {
    const now = nowMs();
    return `FROM points_all WHERE metric = ${bind.text(metric)}
      AND time > ${timeSql(now - lookBackMs, bind)} AND time < ${timeSql(now + lookBackMs, bind)}
      AND log_time > ${timeSql(now - ARRIVAL_MS_MAX, bind)} ${filtersSql(filters, bind)}`;
  }

  async function names(name: string, column: string, selection: Partial<Selection>, bind: Binder): Promise<string[]> {
    const { metric, filters = {}, signal } = selection;
    const ofMetric = metric === undefined ? "" : `AND metric = ${bind.text(metric)}`;
    const sql = `SELECT DISTINCT ${column} AS n FROM points_rollup WHERE n != '' ${ofMetric} ${filtersSql(filters, bind)} ORDER BY n`;
    const rows = await run<{ n: string }>({ name, sql, params: bind.params, signal });
    return rows.map(({ n }) => n);
  }

  return {
    async metrics(selection = {}) {
      if (Object.keys(selection.filters ?? {}).length > 0) return names("metrics", "metric", selection, createBinder());
      const { signal } = selection;
      const rows = await run<{ n: string }>({ name: "metrics", sql: METRICS_SQL, params: {}, signal });
      return rows.map(({ n }) => n);
    },
    tags: (selection = {}) => names("tags", "arrayJoin(mapKeys(tags))", selection, createBinder()),
    tagValues(tag, selection = {}) {
      const bind = createBinder();
      return names("tag_values", `tags[${bind.text(tag)}]`, selection, bind);
    },
    async latest(query) {
      const bind = createBinder();
      const { columns, groups } = windowSql(query, bind, (each) => overValues(each, "(time, log_offset)"));
      const sql = `SELECT ${windowOf("toUnixTimestamp64Milli(time)", pollMs, bind)} AS t ${columns}
        ${recentSql(query, bind)} GROUP BY t ${groups} ORDER BY t DESC LIMIT 1 BY ${groups ? groups.slice(1) : "tuple()"}`;
      return toWindows(await run({ name: "latest", sql, params: bind.params, signal: query.signal }), query);
    },
    async newest(query) {
      const bind = createBinder();
      const columns = query.tags.map((tag, i) => `, tags[${bind.text(tag)}] AS g${i}`).join("");
      const sql = `SELECT * FROM (SELECT toUnixTimestamp64Milli(time) AS t, value AS v ${columns} ${recentSql(query, bind)}
        ORDER BY time DESC, log_offset DESC LIMIT ${bind.integer(query.limit)})`;
      const rows = await run<WindowRow & { v: number }>({
        name: "newest",
        sql,
        params: bind.params,
        signal: query.signal,
      });
      return rows.map((row) => ({ timeMs: Number(row.t), value: row.v, tags: groupOf(row, query.tags) }));
    },
    async series(query) {
      checkSeries(query);
      const bind = createBinder();
      const { over = "points", intervalMs, aggregations, signal } = query;
      const isRolledUp = intervalMs % ROLLUP_MS === 0 && aggregations.every((each) => overRollup(each) !== undefined);
      if (over === "points" && !isRolledUp && pointsKeptMs !== undefined)
        checkKept(query.fromMs, nowMs() - pointsKeptMs);
      const sql =
        over !== "points"
          ? overMeansSql(query, over.meansOfMs, bind)
          : isRolledUp
            ? overRollupSql(query, bind)
            : overPointsSql(query, bind);
      return toWindows(await run({ name: "series", sql, params: bind.params, signal }), query);
    },
  };
}

function overRollupSql(query: SeriesQuery, bind: Binder): string {
  const { columns, groups } = windowSql(query, bind, (each) => overRollup(each) as string);
  return `SELECT ${windowOf("toInt64(toUnixTimestamp(r.bucket)) * 1000", query.intervalMs, bind)} AS t ${columns}
    FROM points_rollup AS r WHERE ${bucketsSql(query, ROLLUP_MS, bind)} GROUP BY t ${groups} ORDER BY t ${groups}`;
}

function overPointsSql(query: SeriesQuery, bind: Binder): string {
  const { columns, groups } = windowSql(query, bind, (each) => overValues(each, "(time, log_offset)"));
  return `SELECT ${windowOf("toUnixTimestamp64Milli(time)", query.intervalMs, bind)} AS t ${columns}
    FROM points_all WHERE metric = ${bind.text(query.metric)}
      AND time >= ${timeSql(query.fromMs, bind)} AND time < ${timeSql(query.toMs, bind)}
      ${filtersSql(query.filters ?? {}, bind)}
    GROUP BY t ${groups} ORDER BY t ${groups}`;
}

function overMeansSql(query: SeriesQuery, meansOfMs: number, bind: Binder): string {
  const { columns, groups } = windowSql(query, bind, (each) => overValues(each, "(w, series)"));
  return `SELECT ${windowOf("w", query.intervalMs, bind)} AS t ${columns} FROM (
      SELECT ${windowOf("toInt64(toUnixTimestamp(r.bucket)) * 1000", meansOfMs, bind)} AS w, sipHash128(r.tags) AS series,
        any(r.tags) AS tags, sum(r.sum) / sum(r.count) AS value
      FROM points_rollup AS r WHERE ${bucketsSql(query, meansOfMs, bind)} GROUP BY w, series)
    GROUP BY t ${groups} ORDER BY t ${groups}`;
}

/** Buckets of the windows of so many milliseconds that begin within the time. */
function bucketsSql({ metric, filters = {}, fromMs, toMs }: SeriesQuery, windowMs: number, bind: Binder): string {
  const second = (ms: number) => {
    const begin = (Math.ceil(ms / windowMs) * windowMs) / 1000;
    return `toDateTime(${bind.integer(Math.min(Math.max(0, begin), UINT32_MAX))}, 'UTC')`;
  };
  return `metric = ${bind.text(metric)} AND bucket >= ${second(fromMs)} AND bucket < ${second(toMs)} ${filtersSql(filters, bind, "r.tags")}`;
}

function windowSql({ groupBy = [], aggregations }: LatestQuery, bind: Binder, sqlOf: (each: Aggregation) => string) {
  if (groupBy.length > GROUP_TAGS_MAX) {
    throw new StatsQueryError("invalid", `more than ${GROUP_TAGS_MAX} tags to group by`);
  }
  const tags = groupBy.map((tag, i) => `, tags[${bind.text(tag)}] AS g${i}`);
  const values = aggregations.map((each, i) => `, toFloat64(${sqlOf(each)}) AS a${i}`);
  return { columns: [...tags, ...values].join(""), groups: groupBy.map((_, i) => `, g${i}`).join("") };
}

/** Begin of the window that the time, SQL of milliseconds, lies in. */
function windowOf(time: string, windowMs: number, bind: Binder): string {
  const length = bind.integer(windowMs);
  return `intDiv(${time}, ${length}) * ${length}`;
}

function timeSql(ms: number, bind: Binder): string {
  return `fromUnixTimestamp64Milli(${bind.integer(Math.max(0, ms))}, 'UTC')`;
}

function checkSeries({ fromMs, toMs, intervalMs, over = "points" }: SeriesQuery): void {
  const invalid = (message: string) => new StatsQueryError("invalid", message);
  if (![fromMs, toMs, intervalMs].every(Number.isSafeInteger)) throw invalid("times are whole milliseconds");
  if (intervalMs < 1) throw invalid("the interval must be longer than nothing");
  if (over !== "points" && !(over.meansOfMs > 0 && over.meansOfMs % ROLLUP_MS === 0)) {
    throw invalid("means are taken over multiples of 5 minutes");
  }
}

function checkKept(fromMs: number, keptFromMs: number): void {
  if (fromMs >= keptFromMs) return;
  const since = new Date(keptFromMs).toISOString();
  throw new StatsQueryError(
    "invalid",
    `single points are kept since ${since} only: begin later, or ask for an interval that is a multiple of 5 minutes without first, mode and stddev`,
  );
}

type WindowRow = Record<string, string | number | null> & { t: string };

function toWindows(rows: readonly WindowRow[], { groupBy = [], aggregations }: LatestQuery): Window[] {
  return rows.map((row) => ({
    timeMs: Number(row.t),
    group: groupOf(row, groupBy),
    values: aggregations.map((_, i) => (row[`a${i}`] ?? null) as number | null),
  }));
}

function groupOf(row: WindowRow, tags: readonly string[]): Record<string, string> {
  return Object.fromEntries(tags.map((tag, i) => [tag, String(row[`g${i}`] ?? "")]));
}
