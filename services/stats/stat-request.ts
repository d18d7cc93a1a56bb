// A request for one stat as its query says it, in the rules that /latest, /hourly and /daily share.
import { type Filters, VERBS, type Verb } from "./queries/sql.ts";
import { parseBackfill, parseInfluxDuration } from "./query-string.ts";

export class BadRequestError extends Error {
  override readonly name = "BadRequestError";
}

/** No points match. */
export class NotFoundError extends Error {
  override readonly name = "NotFoundError";
}

export type Compat = "readme" | "code";

export interface StatRequest {
  stat: string;
  filters: Filters;
  verb: Verb | "none";
  /** How far back from now, milliseconds. */
  startMs: number | undefined;
  stopMs: number | undefined;
  backfill: number | undefined;
  compat: Compat;
  /** The time of an answer, from milliseconds: seconds, or milliseconds in the code's form. */
  time(ms: number): number;
  signal: AbortSignal;
}

/** Not filters. Another casing of the token's name is one. */
const SCALARS = new Set(["verb", "start", "stop", "backfill", "x-auth-token", "X-AUTH-TOKEN", ":stat"]);
const COMPAT = "compat";

/** The form that was asked for. Any other `compat` is a filter. */
export function compatOf(query: URLSearchParams, otherwise: Compat): Compat {
  const asked = query.get(COMPAT);
  return asked === "readme" || asked === "code" ? asked : otherwise;
}

/**
 * Throws BadRequestError. `segment` is the stat in the path; a caller's own `:stat` comes before it. The query of
 * /latest may have anything as `start`, `stop` and `backfill`.
 */
export function readStatRequest(
  query: URLSearchParams,
  segment: string,
  options: { compat: Compat; isLatest: boolean; signal: AbortSignal },
): StatRequest {
  const compat = compatOf(query, options.compat);
  const durationOf = (name: string) => (options.isLatest ? undefined : readDuration(query, name));
  return {
    stat: query.get(":stat") ?? segment,
    filters: readFilters(query),
    verb: readVerb(query.get("verb") || "mean"),
    startMs: durationOf("start"),
    stopMs: durationOf("stop"),
    backfill: options.isLatest ? undefined : readBackfill(query),
    compat,
    time: (ms) => (compat === "code" ? ms : ms / 1_000),
    signal: options.signal,
  };
}

function readFilters(query: URLSearchParams): Filters {
  const filters = new Map<string, string[]>();
  for (const [name, value] of query) {
    if (SCALARS.has(name) || (name === COMPAT && (value === "readme" || value === "code"))) continue;
    const values = filters.get(name);
    if (values) values.push(value);
    else filters.set(name, [value]);
  }
  return Object.fromEntries(filters);
}

function readVerb(text: string): Verb | "none" {
  const verb = [...VERBS, "none" as const].find((each) => each === text.toLowerCase());
  if (verb) return verb;
  throw new BadRequestError(`unknown verb ${quoted(text)}; use one of none, ${VERBS.join(", ")}`);
}

function readDuration(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const ms = parseInfluxDuration(text);
  if (ms !== undefined) return ms;
  throw new BadRequestError(
    `${name} ${quoted(text)} is not a duration: expected 15m, 24h or 7d (u, ms, s, m, h, d, w)`,
  );
}

function readBackfill(query: URLSearchParams): number | undefined {
  const value = parseBackfill(query.get("backfill"));
  if (value === "not finite") throw new BadRequestError("backfill must be a finite number");
  return value;
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
