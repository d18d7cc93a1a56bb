// GET /hourly/{stat} and /daily/{stat}: what the roll-up holds.
import type { StatsQueries } from "./queries/queries.ts";
import { ROLLUP_MS } from "./queries/queries.ts";
import { overRollup, type Verb } from "./queries/sql.ts";
import { BadRequestError, NotFoundError, type StatRequest } from "./stat-request.ts";

const HOUR_MS = 3_600_000;
const QUARTER_MS = 900_000;
const DAY_MS = 24 * HOUR_MS;
const FILLED_MAX = 100_000;

export interface HistoryOptions {
  queries: StatsQueries;
  /** AGGREGATE_INTERVAL, milliseconds: what the old store held means of. */
  aggregateMs: number;
  timeZone: string | undefined;
  nowMs(): number;
}

/** Names that the old store left out. */
const NEVER_AGGREGATED = new Set(["cpu", "time"]);

export function createHistory({ queries, aggregateMs, timeZone, nowMs }: HistoryOptions) {
  const clock = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "short" });

  /** Windows with a value, in order. `start` and `stop` count back from now and are themselves outside. */
  async function windows(request: StatRequest, intervalMs: number, defaultStartMs: number) {
    const { stat: metric, filters, verb, signal, compat } = request;
    if (verb === "none") throw new BadRequestError("verb none is for /latest only");
    if (compat === "code" && NEVER_AGGREGATED.has(metric)) throw new NotFoundError();
    const now = nowMs();
    const fromMs = now - (request.startMs ?? defaultStartMs) + 1;
    const toMs = now - (request.stopMs ?? 0);
    const closedMs = Math.floor(now / aggregateMs) * aggregateMs;
    const found = await queries.series({
      ...{ metric, filters, intervalMs, aggregations: [verb], signal, fromMs },
      // The old store had a window once it was over.
      toMs: compat === "code" ? Math.min(toMs, closedMs) : toMs,
      over: compat === "code" ? { meansOfMs: aggregateMs } : grainOf(verb),
    });
    const values = found.flatMap(({ timeMs, values: [value = null] }) => (value === null ? [] : [{ timeMs, value }]));
    if (values.length === 0) throw new NotFoundError();
    return { values, fromMs, toMs };
  }

  return {
    /** Resolves with the answer's JSON. Rejects with NotFoundError or BadRequestError, or as the queries do. */
    async hourly(request: StatRequest): Promise<unknown> {
      const { values, fromMs, toMs } = await windows(request, HOUR_MS, DAY_MS);
      const filled = request.backfill === undefined ? values : fill(values, request.backfill, fromMs, toMs);
      return filled.map(({ timeMs, value }) => ({ time: request.time(timeMs), value }));
    },

    /** As hourly. Days are averaged, whatever the verb. */
    async daily(request: StatRequest): Promise<unknown> {
      const { values } = await windows(request, QUARTER_MS, 7 * DAY_MS);
      // A time of day comes twice when clocks are set back: the two quarters are one of their day.
      const quarters = new Map<string, { at: string; values: number[] }>();
      for (const { timeMs, value } of values) {
        const [date = "", time = ""] = clock.format(timeMs).split(" ");
        const at = quarterOf(time);
        const quarter = quarters.get(`${date} ${at}`);
        if (quarter) quarter.values.push(value);
        else quarters.set(`${date} ${at}`, { at, values: [value] });
      }
      const sums = new Map<string, { sum: number; count: number }>();
      for (const { at, values } of quarters.values()) {
        const { sum, count } = sums.get(at) ?? { sum: 0, count: 0 };
        sums.set(at, { sum: sum + united(values, request.verb), count: count + 1 });
      }
      const times = request.backfill === undefined ? [...sums.keys()].sort() : QUARTERS;
      const means = times.map((time) => {
        const day = sums.get(time);
        return { time, value: day ? day.sum / day.count : (request.backfill ?? 0) };
      });
      if (request.compat === "code") return means;
      return Object.fromEntries(means.map(({ time, value }) => [time, value]));
    },
  };
}

/** What the roll-up does not hold is taken over the means of its windows, which is what the old store knew. */
function grainOf(verb: Verb): "points" | { meansOfMs: number } {
  return overRollup(verb) === undefined ? { meansOfMs: ROLLUP_MS } : "points";
}

/** One value of windows that follow each other. Of what cannot be told from their values, the mean stands for all. */
function united(values: readonly number[], verb: Verb | "none"): number {
  const [first = 0] = values;
  const sum = values.reduce((total, value) => total + value, 0);
  switch (verb) {
    case "sum":
    case "count":
      return sum;
    case "min":
      return Math.min(...values);
    case "max":
      return Math.max(...values);
    case "first":
      return first;
    case "last":
      return values.at(-1) ?? first;
    default:
      return sum / values.length;
  }
}

interface Value {
  timeMs: number;
  value: number;
}

function fill(values: readonly Value[], value: number, fromMs: number, toMs: number): Value[] {
  const first = Math.max(0, Math.floor(fromMs / HOUR_MS));
  const end = Math.ceil(toMs / HOUR_MS);
  if (end - first > FILLED_MAX) throw new BadRequestError(`backfill of more than ${FILLED_MAX} hours`);
  const known = new Map(values.map((each) => [each.timeMs, each]));
  return Array.from({ length: end - first }, (_, i) => {
    const timeMs = (first + i) * HOUR_MS;
    return known.get(timeMs) ?? { timeMs, value };
  });
}

/** Of a time of day: zones exist whose quarters are not those of UTC. */
function quarterOf(time: string): string {
  const [hour = "", minute = ""] = time.split(":");
  return clockText(Number(hour), Math.floor(Number(minute) / 15) * 15);
}

function clockText(hour: number, minute: number): string {
  return `${String(hour).padStart(2, "0")}:${String(minute).padStart(2, "0")}`;
}

const QUARTERS = Array.from({ length: 96 }, (_, i) => clockText(Math.floor(i / 4), (i % 4) * 15));
