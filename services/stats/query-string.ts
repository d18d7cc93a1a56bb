// The query of a request as pulse reads it: repeated keys are kept in order, and the first value of a scalar counts.
import type { HttpRequest } from "#lib/http/message.ts";

export function queryOf({ url = "" }: HttpRequest): URLSearchParams {
  const at = url.indexOf("?");
  return new URLSearchParams(at < 0 ? "" : url.slice(at + 1).replace(/#.*$/s, ""));
}

/** As it was sent, escapes included. Undefined for a path whose escapes make no text. */
export function pathOf({ url = "" }: HttpRequest): string | undefined {
  const path = url.replace(/[?#].*$/s, "");
  try {
    decodeURIComponent(path);
    return path;
  } catch {
    // Thrown for invalid escapes only.
    return undefined;
  }
}

/** What stands between the slashes of a path of `pathOf`, decoded: an escaped slash belongs to its segment. */
export function segmentsOf(path: string): string[] {
  return path.split("/").slice(1).map(decodeURIComponent);
}

/** Without empty segments, "." and "..", as Go's path.Clean; a slash at the end stays. */
export function cleanPath(path: string): string {
  const segments: string[] = [];
  for (const segment of path.split("/")) {
    const text = decodeURIComponent(segment);
    if (text === "..") segments.pop();
    else if (text !== "" && text !== ".") segments.push(segment);
  }
  const clean = `/${segments.join("/")}`;
  return path.endsWith("/") && clean !== "/" ? `${clean}/` : clean;
}

const UNITS_MS: Record<string, number> = {
  u: 0.001,
  µ: 0.001,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
/** What 64 bits of nanoseconds hold. */
const DURATION_MS_MAX = 9_223_372_036_854;

/** Milliseconds of an InfluxQL duration, such as 90m; undefined for anything else. */
export function parseInfluxDuration(text: string): number | undefined {
  const match = /^(\d+)(ms|[uµsmhdw])$/.exec(text);
  const ms = Number(match?.[1]) * (UNITS_MS[match?.[2] ?? ""] ?? Number.NaN);
  return ms <= DURATION_MS_MAX ? Math.floor(ms) : undefined;
}

/**
 * What empty windows are filled with: undefined when nothing is to be, a number as Go reads it, 0 for text that is not a number.
 * "not finite" for infinities and NaN, which JSON cannot say.
 */
export function parseBackfill(text: string | null): number | undefined | "not finite" {
  if (text === null || text === "") return undefined;
  if (/^[+-]?(inf|infinity|nan)$/i.test(text)) return "not finite";
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return 0;
  return Number.isFinite(Number(text)) ? Number(text) : "not finite";
}
