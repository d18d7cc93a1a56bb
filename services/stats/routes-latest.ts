// GET /latest/{stat}: what the last polls brought.

import type { StatsQueries } from "./queries/queries.ts";
import type { StatRequest } from "./stat-request.ts";
import { NotFoundError } from "./stat-request.ts";

/** Resolves with the answer's JSON. Rejects with NotFoundError, or as the queries do. */
export async function answerLatest(queries: StatsQueries, request: StatRequest): Promise<unknown> {
  const { stat: metric, filters, verb, time, signal } = request;
  if (verb === "none") return answerSingly(queries, request);
  const [window] = await queries.latest({ metric, filters, aggregations: [verb], signal });
  const value = window?.values[0] ?? null;
  if (window === undefined || value === null) throw new NotFoundError();
  return { time: time(window.timeMs), value };
}

/** As many points as the most repeated filter has values, with the tags that were asked for more than once. */
async function answerSingly(queries: StatsQueries, request: StatRequest): Promise<unknown> {
  const { stat: metric, filters, time, signal } = request;
  const counts = Object.entries(filters).map(([tag, { length }]) => ({ tag, length }));
  const limit = Math.max(1, ...counts.map(({ length }) => length));
  const tags = counts.filter(({ length }) => length > 1).map(({ tag }) => tag);
  const points = await queries.newest({ metric, filters, tags, limit, signal });
  const [first] = points;
  if (first === undefined) throw new NotFoundError();
  const secondOf = (ms: number) => time(Math.floor(ms / 1_000) * 1_000);
  if (points.length === 1) return { time: secondOf(first.timeMs), value: first.value };
  return points.map(({ timeMs, value, tags: named }) => sorted({ ...named, time: secondOf(timeMs), value }));
}

/** By key, as Go writes maps. */
function sorted(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}
