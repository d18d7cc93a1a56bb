// StatsService: messages to questions for the query module, windows to answers.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import {
  type GetLatestRequest,
  GetLatestResponseSchema,
  ListMetricsResponseSchema,
  ListTagsResponseSchema,
  ListTagValuesResponseSchema,
  type QuerySeriesRequest,
  QuerySeriesResponseSchema,
  StatsService,
} from "#gen/millrace/stats/v1/stats_pb.ts";
import type { Live } from "../live/live.ts";
import type { SeriesQuery, StatsQueries, Window } from "../queries/queries.ts";
import { invalid, toRpcError } from "./errors.ts";
import {
  readAggregations,
  readFilters,
  readGroupBy,
  readInterval,
  readLiveFilter,
  readName,
  readTime,
} from "./request-fields.ts";
import { watchMessages } from "./watch.ts";

export interface StatsServiceOptions {
  queries: StatsQueries;
  live: Pick<Live, "watch">;
  /** Cuts the connection (HTTP/2: the stream) of the call. */
  hangUp(context: HandlerContext): void;
  nowMs: () => number;
}

const DAY_MS = 86_400_000;
const INTERVAL_MS_DEFAULT = 300_000;

export function registerStatsService(router: ConnectRouter, { queries, live, hangUp, nowMs }: StatsServiceOptions) {
  router.service(StatsService, {
    async listMetrics({ filters }, { signal }) {
      const metrics = await answered(queries.metrics({ filters: readFilters(filters), signal }), signal);
      return create(ListMetricsResponseSchema, { metrics });
    },
    async listTags({ metric, filters }, { signal }) {
      const tags = await answered(queries.tags({ ...ofMetric(metric), filters: readFilters(filters), signal }), signal);
      return create(ListTagsResponseSchema, { tags });
    },
    async listTagValues({ tag, metric, filters }, { signal }) {
      const selection = { ...ofMetric(metric), filters: readFilters(filters), signal };
      const values = await answered(queries.tagValues(readName("tag", tag), selection), signal);
      return create(ListTagValuesResponseSchema, { values });
    },
    async getLatest(request, { signal }) {
      const windows = await answered(queries.latest({ ...readQuestion(request), signal }), signal);
      return create(GetLatestResponseSchema, {
        results: windows.map((window) => ({ tags: { ...window.group }, ...windowOf(window) })),
      });
    },
    async querySeries(request, { signal }) {
      const windows = await answered(queries.series({ ...readSeries(request, nowMs()), signal }), signal);
      return create(QuerySeriesResponseSchema, { series: bySeries(windows) });
    },
    watch(request, context) {
      return watchMessages(live, readLiveFilter(request), context.signal, () => hangUp(context));
    },
  });
}

/** Turns what went wrong into what the caller is told. */
async function answered<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw toRpcError(error, signal);
  }
}

function ofMetric(metric: string): { metric?: string } {
  return metric === "" ? {} : { metric };
}

function readQuestion(request: GetLatestRequest | QuerySeriesRequest) {
  return {
    metric: readName("metric", request.metric),
    filters: readFilters(request.filters),
    groupBy: readGroupBy(request.groupBy),
    aggregations: readAggregations(request.aggregations, request.quantiles),
  };
}

function readSeries(request: QuerySeriesRequest, nowMs: number): SeriesQuery {
  const { from, to, interval } = request;
  const toMs = to === undefined ? nowMs : readTime("to", to);
  const fromMs = from === undefined ? Math.max(0, toMs - DAY_MS) : readTime("from", from);
  if (fromMs >= toMs) throw invalid("from: is not before to, which is now if it is absent");
  const intervalMs = interval === undefined ? INTERVAL_MS_DEFAULT : readInterval(interval);
  return { ...readQuestion(request), fromMs, toMs, intervalMs };
}

function windowOf({ timeMs, values }: Window) {
  return { time: timestampFromMs(timeMs), values: values.map((value) => value ?? Number.NaN) };
}

/** Windows come by time; each series has its own, by time. */
function bySeries(windows: readonly Window[]) {
  const series = new Map<string, { tags: Record<string, string>; windows: ReturnType<typeof windowOf>[] }>();
  for (const window of windows) {
    const key = JSON.stringify(Object.values(window.group));
    const known = series.get(key) ?? { tags: { ...window.group }, windows: [] };
    known.windows.push(windowOf(window));
    series.set(key, known);
  }
  return [...series].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}
