// HTTP from a page: fetch and beacon.
import { native } from "./native.ts";

export const VERSION = "0.1.0";
const GZIP_CHARS_MIN = 1024;

/** The server answered, and not with success. */
export class HttpStatusError extends Error {
  readonly status: number;
  /** What its Retry-After asks for. Cross-origin only visible when the server exposes the header. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, retryAfterMs: number | undefined) {
    super(`HTTP ${status}`);
    this.name = "HttpStatusError";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

function urlOf(endpoint: string, isBeacon: boolean): string {
  const plain = `${endpoint}?_=${native.nowMs()}&ver=${VERSION}`;
  return isBeacon ? `${plain}&beacon=1` : plain;
}

/**
 * Resolves with the number of events that the server says it dropped. Rejects with HttpStatusError, with TypeError when
 * there is no connection, with AbortError after `timeoutMs`, and with SyntaxError for a success that no gateway speaks
 * of: a login page.
 */
export async function post(
  endpoint: string,
  json: string,
  options: { timeoutMs: number; keepalive?: boolean },
): Promise<number> {
  if (!native.fetch) throw new TypeError("there is no fetch");
  const { keepalive = false, timeoutMs } = options;
  const headers: Record<string, string> = { "content-type": "application/json" };
  let body: string | ArrayBuffer = json;
  // Compressing takes a turn of the event loop, which a closing page does not have.
  if (!keepalive && native.CompressionStream && json.length > GZIP_CHARS_MIN) {
    body = await gzip(json, native.CompressionStream);
    headers["content-encoding"] = "gzip";
  }
  const aborting = new native.AbortController();
  const timer = native.setTimeout(() => aborting.abort(), timeoutMs);
  try {
    const response = await native.fetch(urlOf(endpoint, false), {
      method: "POST",
      headers,
      body,
      keepalive,
      credentials: "omit",
      signal: aborting.signal,
    });
    if (!response.ok) throw new HttpStatusError(response.status, readRetryAfter(response.headers.get("retry-after")));
    return droppedOf(await response.text());
  } finally {
    native.clearTimeout(timer);
  }
}

/** False: the browser did not take it (its 64 KB for closing pages are used up, or it has no beacons). */
export function beacon(endpoint: string, json: string): boolean {
  if (!native.sendBeacon) return false;
  return native.sendBeacon(urlOf(endpoint, true), new native.Blob([json], { type: "application/json" }));
}

async function gzip(text: string, Compression: typeof CompressionStream): Promise<ArrayBuffer> {
  const stream = new native.Blob([text]).stream().pipeThrough(new Compression("gzip"));
  return new native.Response(stream).arrayBuffer();
}

/** Seconds, or an HTTP date; in milliseconds from now. */
export function readRetryAfter(value: string | null): number | undefined {
  if (value === null || value.trim() === "") return undefined;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - native.nowMs();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

function droppedOf(text: string): number {
  // Without a body it is a proxy's, or another server's of this dialect.
  const answer = (text === "" ? null : native.parse(text)) as { dropped?: unknown } | null;
  return typeof answer?.dropped === "number" ? answer.dropped : 0;
}
