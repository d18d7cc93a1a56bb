// Fields of requests, checked: what is refused is refused by name, with what would do instead.
import { type Duration, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { PointOrigin, type TagFilter, Aggregation as Wanted } from "#gen/millrace/stats/v1/stats_pb.ts";
import { TIME_US_MAX } from "#lib/events/time.ts";
import type { LiveFilter } from "../live/filter.ts";
import type { LiveOrigin } from "../live/point.ts";
import type { Aggregation, Filters, Verb } from "../queries/sql.ts";
import { invalid } from "./errors.ts";

const FILTERS_MAX = 100;
const FILTER_VALUES_MAX = 1_000;
const METRICS_MAX = 100;
const GROUP_TAGS_MAX = 10;
const AGGREGATIONS_MAX = 32;
const TIME_MS_MAX = Number(TIME_US_MAX / 1000n);

const VERBS: Partial<Record<Wanted, Verb>> = {
  [Wanted.MEAN]: "mean",
  [Wanted.MIN]: "min",
  [Wanted.MAX]: "max",
  [Wanted.SUM]: "sum",
  [Wanted.COUNT]: "count",
  [Wanted.FIRST]: "first",
  [Wanted.LAST]: "last",
  [Wanted.MEDIAN]: "median",
  [Wanted.SPREAD]: "spread",
  [Wanted.STDDEV]: "stddev",
  [Wanted.MODE]: "mode",
};

const ORIGINS: Partial<Record<PointOrigin, LiveOrigin>> = {
  [PointOrigin.RELAY]: "relay",
  [PointOrigin.EVENT]: "event",
};

export function readName(field: string, name: string): string {
  if (name === "") throw invalid(`${field}: is missing; name one`);
  return name;
}

/** By tag; filters of one tag are one. */
function mergeFilters(filters: readonly TagFilter[]): Map<string, Set<string>> {
  const merged = new Map<string, Set<string>>();
  let count = 0;
  for (const [i, { tag, values }] of filters.entries()) {
    readName(`filters[${i}].tag`, tag);
    if (values.length === 0) {
      throw invalid(`filters[${i}].values: is empty; give at least one value, "" for points without the tag`);
    }
    count += values.length;
    const known = merged.get(tag) ?? new Set();
    for (const value of values) known.add(value);
    merged.set(tag, known);
  }
  if (merged.size > FILTERS_MAX) throw invalid(`filters: names ${merged.size} tags; at most ${FILTERS_MAX} are taken`);
  if (count > FILTER_VALUES_MAX) {
    throw invalid(`filters: has ${count} values; at most ${FILTER_VALUES_MAX} are taken together`);
  }
  return merged;
}

export function readFilters(filters: readonly TagFilter[]): Filters {
  return Object.fromEntries([...mergeFilters(filters)].map(([tag, values]) => [tag, [...values]]));
}

export function readLiveFilter(request: {
  metrics: readonly string[];
  filters: readonly TagFilter[];
  origins: readonly PointOrigin[];
}): LiveFilter {
  const { metrics, filters, origins } = request;
  if (metrics.length > METRICS_MAX) {
    throw invalid(`metrics: has ${metrics.length} names; at most ${METRICS_MAX} are taken, none means every metric`);
  }
  const from = origins.map((origin, i) => {
    const known = ORIGINS[origin];
    if (known === undefined) throw invalid(`origins[${i}]: is ${origin}; take one of PointOrigin, not UNSPECIFIED`);
    return known;
  });
  return {
    metrics: new Set(metrics.map((name, i) => readName(`metrics[${i}]`, name))),
    tags: mergeFilters(filters),
    origins: new Set<LiveOrigin>(from.length === 0 ? ["relay", "event"] : from),
  };
}

export function readGroupBy(tags: readonly string[]): readonly string[] {
  if (tags.length > GROUP_TAGS_MAX) {
    throw invalid(`group_by: has ${tags.length} tags; at most ${GROUP_TAGS_MAX} are taken`);
  }
  for (const [i, tag] of tags.entries()) {
    readName(`group_by[${i}]`, tag);
    if (tags.indexOf(tag) < i) throw invalid(`group_by[${i}]: repeats ${JSON.stringify(tag)}; name each tag once`);
  }
  return tags;
}

/** The mean when neither is given. */
export function readAggregations(aggregations: readonly Wanted[], quantiles: readonly number[]): Aggregation[] {
  const count = aggregations.length + quantiles.length;
  if (count === 0) return ["mean"];
  if (count > AGGREGATIONS_MAX) {
    throw invalid(`aggregations: has ${count} with the quantiles; at most ${AGGREGATIONS_MAX} are taken`);
  }
  return [
    ...aggregations.map((wanted, i) => {
      const verb = VERBS[wanted];
      if (verb === undefined) throw invalid(`aggregations[${i}]: is ${wanted}; take one of Aggregation`);
      return verb;
    }),
    ...quantiles.map((quantile, i) => {
      if (!(quantile >= 0 && quantile <= 1)) throw invalid(`quantiles[${i}]: is ${quantile}; it lies between 0 and 1`);
      return { quantile };
    }),
  ];
}

/** Milliseconds since 1970. A fraction of a millisecond is cut off. */
export function readTime(field: string, time: Timestamp): number {
  const ms = time.nanos >= 0 && time.nanos < 1e9 ? timestampMs(time) : Number.NaN;
  if (!(ms >= 0 && ms <= TIME_MS_MAX)) throw invalid(`${field}: lies outside 1970 to 2299`);
  return Math.floor(ms);
}

/** Whole milliseconds, at least one. */
export function readInterval(interval: Duration): number {
  const ms = Number(interval.seconds) * 1000 + interval.nanos / 1e6;
  if (!(Number.isSafeInteger(ms) && ms >= 1)) {
    throw invalid("interval: must be whole milliseconds, at least one, such as 60s");
  }
  return ms;
}
