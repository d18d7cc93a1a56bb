// Pieces of SQL that the stats queries are made of. Values get in as bound parameters only.
import { StatsQueryError } from "./errors.ts";

/** What can be asked of the values of a window. */
export const VERBS = [
  "mean",
  "median",
  "min",
  "max",
  "sum",
  "count",
  "first",
  "last",
  "spread",
  "stddev",
  "mode",
] as const;
export type Verb = (typeof VERBS)[number];

/** A verb, or a quantile between 0 and 1: interpolated over points, approximate (t-digest) over the roll-up. */
export type Aggregation = Verb | { quantile: number };

/** Tag to the values of which a point must have one. "" stands for a tag that is empty or absent. */
export type Filters = Readonly<Record<string, readonly string[]>>;

/** Together they travel in the address of the request to ClickHouse, which is bounded. */
const TEXT_CHARS_MAX = 32_768;
const FILTERS_MAX = 100;
const FILTER_VALUES_MAX = 1_000;

export interface Binder {
  readonly params: Record<string, unknown>;
  /** SQL of a bound String. */
  text(value: string): string;
  /** SQL of a bound Array(String). */
  texts(values: readonly string[]): string;
  /** SQL of a bound Int64. */
  integer(value: number): string;
  /** SQL of a bound Float64. */
  float(value: number): string;
}

export function createBinder(): Binder {
  const params: Record<string, unknown> = {};
  let count = 0;
  let chars = 0;
  const bind = (value: unknown, type: string) => {
    const name = `p${count++}`;
    params[name] = value;
    return `{${name}:${type}}`;
  };
  const assertTexts = (values: readonly string[]) => {
    for (const value of values) chars += encodeURIComponent(value.toWellFormed()).length;
    // Parameters cannot carry it.
    if (values.some((value) => value.includes("\0")))
      throw new StatsQueryError("invalid", "a name holds a NUL character");
    if (chars > TEXT_CHARS_MAX) throw new StatsQueryError("invalid", "the names and filters are too long together");
  };
  return {
    params,
    text(value) {
      assertTexts([value]);
      return bind(value, "String");
    },
    texts(values) {
      assertTexts(values);
      return bind(values, "Array(String)");
    },
    integer: (value) => bind(value, "Int64"),
    float: (value) => bind(value, "Float64"),
  };
}

/** "AND …" for each filter, "" for none. `tags`: SQL of the column that has them. */
export function filtersSql(filters: Filters, bind: Binder, tags = "tags"): string {
  const all = Object.entries(filters);
  const values = all.reduce((sum, [, { length }]) => sum + length, 0);
  if (all.length > FILTERS_MAX || values > FILTER_VALUES_MAX) {
    throw new StatsQueryError("invalid", `more than ${FILTERS_MAX} filters, or ${FILTER_VALUES_MAX} values of them`);
  }
  return all.map(([tag, wanted]) => `AND has(${bind.texts(wanted)}, ${tags}[${bind.text(tag)}])`).join(" ");
}

/** Over raw points, or over rows that look like them: `value` and an order to tell first and last by. */
export function overValues(aggregation: Aggregation, order: string): string {
  if (typeof aggregation === "object") return `quantileExactInclusive(${level(aggregation.quantile)})(value)`;
  switch (aggregation) {
    case "mean":
      return "avg(value)";
    case "median":
      return "quantileExactInclusive(0.5)(value)";
    case "first":
      return `argMin(value, ${order})`;
    case "last":
      return `argMax(value, ${order})`;
    case "spread":
      return "max(value) - min(value)";
    case "stddev":
      return "stddevSamp(value)";
    case "mode":
      return modeSql();
    case "count":
      return "count()";
    default:
      return `${aggregation}(value)`;
  }

  function modeSql(): string {
    const counts = "sumMap([value], [toUInt64(1)])";
    return `tupleElement(${counts}, 1)[indexOf(tupleElement(${counts}, 2), arrayMax(tupleElement(${counts}, 2)))]`;
  }
}

/** Over rows of points_rollup `AS r`; undefined when it does not hold what is asked for. */
export function overRollup(aggregation: Aggregation): string | undefined {
  if (typeof aggregation === "object") return rollupQuantile(aggregation.quantile);
  switch (aggregation) {
    case "mean":
      return "sum(r.sum) / sum(r.count)";
    case "median":
      return rollupQuantile(0.5);
    case "sum":
      return "sum(r.sum)";
    case "count":
      return "sum(r.count)";
    case "min":
      return "min(r.min)";
    case "max":
      return "max(r.max)";
    case "spread":
      return "max(r.max) - min(r.min)";
    case "last":
      return "argMax(r.last, (r.last_time, r.slot))";
    default:
      return undefined;
  }
}

/** The stored states hold a digest, which answers any level, not only those it is named after. */
function rollupQuantile(quantile: number): string {
  return `quantilesTDigestMerge(${level(quantile)})(r.quantiles)[1]`;
}

/** Parameters of aggregate functions cannot be bound: a number that is one and nothing else. */
function level(quantile: number): string {
  if (!(quantile >= 0 && quantile <= 1)) throw new StatsQueryError("invalid", "a quantile lies between 0 and 1");
  return quantile.toFixed(6);
}
