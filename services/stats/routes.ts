// pulse's HTTP API for history: GET /ping /keys /tags /latest/{stat} /hourly/{stat} /daily/{stat} /daily_peaks/{stat}.

import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import { refuseUnknownRpc } from "#lib/http/unknown-rpc.ts";
import type { Logger } from "#lib/process/log.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Access } from "./access.ts";
import { sendJson, sendText } from "./answers.ts";
import { StatsQueryError } from "./queries/errors.ts";
import type { StatsQueries } from "./queries/queries.ts";
import { queryOf, segmentsOf } from "./query-string.ts";
import { FAILED } from "./refusals.ts";
import { createHistory } from "./routes-history.ts";
import { answerLatest } from "./routes-latest.ts";
import { BadRequestError, type Compat, compatOf, NotFoundError, readStatRequest } from "./stat-request.ts";

export interface RoutesOptions {
  queries: StatsQueries;
  access: Pick<Access, "allowOrigin">;
  compat: Compat;
  aggregateMs: number;
  timeZone: string | undefined;
  nowMs(): number;
  logger: Logger;
}

type AnswerStat = (request: ReturnType<typeof readStatRequest>) => Promise<unknown>;

const BUSY_SECONDS = 2;

/** Answers every request that is left to it; the last one to be asked. */
export function createRoutes({ queries, access, compat, logger, ...rest }: RoutesOptions) {
  const history = createHistory({ queries, ...rest });
  const stats: Record<string, AnswerStat> = {
    latest: (request) => answerLatest(queries, request),
    hourly: history.hourly,
    daily: history.daily,
    daily_peaks: history.daily,
  };
  const lists: Record<string, (signal: AbortSignal) => Promise<string[]>> = {
    keys: (signal) => queries.metrics({ signal }),
    tags: (signal) => queries.tags({ signal }),
  };

  /** Hands back the route's name for metrics. */
  function handle(request: HttpRequest, response: HttpResponse, path: string): string {
    if (request.method === "GET") {
      const [name = "", segment = ""] = segmentsOf(path);
      const answer = Object.hasOwn(stats, name) ? stats[name] : undefined;
      if (answer && segment !== "") {
        const isLatest = name === "latest";
        access.allowOrigin(response);
        run(request, response, (query, signal) =>
          answer(readStatRequest(query, segment, { compat, isLatest, signal })),
        );
        return name;
      }
      // Patterns are prefixes: /keysXYZ is /keys.
      const [, list = ""] = /^(keys|tags)/.exec(name) ?? [];
      const read = lists[list];
      if (read) {
        run(request, response, async (_, signal) => nullIfEmpty(await read(signal)));
        return list;
      }
      if (name.startsWith("ping")) {
        sendText(response, 200, "pong");
        return "ping";
      }
      if (path === "/") {
        sendText(response, 200, startPage(request.headers.host));
        return "start";
      }
    }
    if (!refuseUnknownRpc(request, response)) sendText(response, 404, "404 page not found\n");
    return "unknown";
  }

  function run(
    request: HttpRequest,
    response: HttpResponse,
    work: (query: URLSearchParams, signal: AbortSignal) => Promise<unknown>,
  ): void {
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("the caller has gone")));
    const query = queryOf(request);
    // Called within, so that what it throws at once is an answer as well.
    void Promise.resolve()
      .then(() => work(query, gone.signal))
      .then((value) => sendJson(response, 200, value))
      .catch((error: unknown) => {
        if (isCallerGone(response)) return;
        const [status, message] = describe(error, compatOf(query, compat));
        const headers: Record<string, string> = status === 503 ? { "retry-after": String(BUSY_SECONDS) } : {};
        sendJson(response, status, { error: message }, headers);
      });
  }

  function describe(error: unknown, form: Compat): [status: number, message: string] {
    if (error instanceof NotFoundError) return [404, "Not Found"];
    if (error instanceof BadRequestError) return [400, error.message];
    if (error instanceof StatsQueryError) {
      if (error.kind === "invalid" || error.kind === "too_much") return [400, error.message];
      return [error.kind === "unavailable" && form === "code" ? 500 : 503, error.message];
    }
    logger.error({ err: error }, "a request could not be answered");
    return [500, error instanceof WarehouseError ? error.message : FAILED];
  }

  return handle;
}

/** For a person who opens the port in a browser. */
function startPage(host = "127.0.0.1:8081"): string {
  const url = `http://${host}`;
  return `Millrace: statistics.

Names of metrics:              curl ${url}/keys
Names of tags:                 curl ${url}/tags
Newest value of a metric:      curl '${url}/latest/NAME?verb=mean'
Values by hour, by time of day: curl ${url}/hourly/NAME    curl ${url}/daily/NAME
Values as they come:           curl -N '${url}/watch?metric=NAME'
Alerts:                        curl ${url}/alerts
Whether it works:              curl ${url}/readyz

Where STATS_TOKEN is set, add -H 'authorization: Bearer TOKEN'. Events themselves are queried in ClickHouse.
`;
}

function nullIfEmpty(names: string[]): string[] | null {
  return names.length === 0 ? null : names;
}
