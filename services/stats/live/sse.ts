// GET /watch: live points as Server-Sent Events, for browsers' EventSource.
import { send, sendEmpty } from "#lib/http/answers.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import { type Access, TOKEN_FIELD } from "../access.ts";
import { drained, EVENT_STREAM_HEADERS, RECONNECT_LINE } from "./event-stream.ts";
import type { LiveFilter } from "./filter.ts";
import { type Live, TooManyWatchersError } from "./live.ts";
import { type LiveOrigin, type LivePoint, pointName } from "./point.ts";
import { type Delivery, type LiveStatus, WatchEndedError, type Watcher } from "./watcher.ts";

export interface WatchRouteOptions {
  live: Pick<Live, "watch">;
  access: Pick<Access, "isAllowed" | "corsAllow">;
}

/** Answers and returns true if the request is GET /watch; leaves any other untouched. */
export type WatchRoute = (request: HttpRequest, response: HttpResponse) => boolean;

class BadQueryError extends Error {
  override readonly name = "BadQueryError";
}

const PATH = "/watch";
const NAMES_MAX = 100;
const VALUES_MAX = 1_000;
const ORIGINS: readonly LiveOrigin[] = ["relay", "event"];
/** Parameters that are no tags. */
const RESERVED = new Set(["metric", "origin", TOKEN_FIELD, TOKEN_FIELD.toLowerCase()]);

export function createWatchRoute({ live, access }: WatchRouteOptions): WatchRoute {
  const { corsAllow } = access;
  const corsHeaders: Record<string, string> = corsAllow === "" ? {} : { "access-control-allow-origin": corsAllow };

  /** Undefined: refused, and answered. */
  function open(request: HttpRequest, response: HttpResponse, query: URLSearchParams): Watcher | undefined {
    if (!access.isAllowed(request)) {
      sendEmpty(response, 401);
      return undefined;
    }
    try {
      return live.watch(readFilter(query), () => response.destroy());
    } catch (error) {
      if (error instanceof BadQueryError) sendError(response, 400, error.message, corsHeaders);
      else if (error instanceof TooManyWatchersError || error instanceof WatchEndedError) {
        const headers = { ...corsHeaders, "retry-after": String(RETRY_AFTER_SECONDS.watch) };
        sendError(response, 503, `${error.message}; try again later`, headers);
      } else throw error;
      return undefined;
    }
  }

  return (request, response) => {
    const [path, ...query] = (request.url ?? "").split("?");
    if (path !== PATH || request.method !== "GET") return false;
    const watcher = open(request, response, new URLSearchParams(query.join("?")));
    if (watcher === undefined) return true;
    response.writeHead(200, {
      ...corsHeaders,
      ...EVENT_STREAM_HEADERS,
    });
    void follow(watcher, response);
    return true;
  };
}

/** Until the peer leaves or the watch is ended here; a browser then connects again by itself. */
async function follow(watcher: Watcher, response: HttpResponse): Promise<void> {
  response.once("close", () => watcher.close());
  if (isCallerGone(response)) watcher.close();
  try {
    response.write(RECONNECT_LINE);
    let told = "";
    for (let next = await watcher.next(); next !== undefined; next = await watcher.next()) {
      const status = next.status && statusText(next.status);
      if (!response.write(deliveryText(next, status === told ? ": alive\n\n" : (status ?? "")))) {
        await drained(response);
      }
      told = status ?? told;
    }
  } catch (error) {
    // A fault of the tail was logged where it happened. A service that stops ends its answers in good order.
    if (!(error instanceof WatchEndedError)) response.destroy();
  } finally {
    watcher.close();
    response.end();
  }
}

function deliveryText({ points }: Delivery, statusPart: string): string {
  return statusPart + points.map(pointText).join("");
}

function statusText(status: LiveStatus): string {
  return `event: status\ndata: ${JSON.stringify(status)}\n\n`;
}

function pointText(point: LivePoint): string {
  const { metric, value, tags, timeUs, origin } = point;
  return `id: ${pointName(point)}\ndata: ${JSON.stringify({ metric, value, tags, time: timeUs / 1e6, origin })}\n\n`;
}

/** `metric` and `origin` may repeat; every other parameter is a tag, and its repetitions are alternatives. */
function readFilter(query: URLSearchParams): LiveFilter {
  const origins = query.getAll("origin").map((name) => {
    const known = ORIGINS.find((origin) => origin === name);
    if (!known) throw new BadQueryError(`origin: ${JSON.stringify(name.slice(0, 40))} is invalid; use relay or event`);
    return known;
  });
  const metrics = new Set(query.getAll("metric"));
  if (metrics.has("")) throw new BadQueryError("metric: is empty; name one, or leave it out for all");
  const tags = new Map<string, Set<string>>();
  let values = 0;
  for (const [tag, value] of query) {
    if (RESERVED.has(tag)) continue;
    if (tag === "") throw new BadQueryError("a tag has no name; write tag=value");
    const known = tags.get(tag) ?? new Set();
    tags.set(tag, known.add(value));
    values++;
  }
  if (metrics.size > NAMES_MAX) throw new BadQueryError(`metric: at most ${NAMES_MAX} are taken`);
  if (tags.size > NAMES_MAX || values > VALUES_MAX) {
    throw new BadQueryError(`at most ${NAMES_MAX} tags with ${VALUES_MAX} values in all are taken`);
  }
  return { metrics, tags, origins: new Set(origins.length === 0 ? ORIGINS : origins) };
}

function sendError(response: HttpResponse, status: number, message: string, headers: Record<string, string>): void {
  const text = `${JSON.stringify({ error: message })}\n`;
  send(response, status, text, { ...headers, "content-type": "application/json" });
}
