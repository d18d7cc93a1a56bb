// pulse's HTTP API for history: GET /ping /keys /tags /latest/{stat} /hourly/{stat} /daily/{stat} /daily_peaks/{stat}.

import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Access } from "./access.ts";
import { sendJson, sendText } from "./answers.ts";
import { StatsQueryError } from "./queries/errors.ts";
import type { StatsQueries } from "./queries/queries.ts";
import { queryOf } from "./query-string.ts";
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
      const [, name = "", segment = ""] = /^\/(latest|hourly|daily|daily_peaks)\/([^/]+)/.exec(path) ?? [];
      const answer = stats[name];
      if (answer) {
        const isLatest = name === "latest";
        access.allowOrigin(response);
        run(request, response, (query, signal) =>
          answer(readStatRequest(query, segment, { compat, isLatest, signal })),
        );
        return name;
      }
      // Patterns are prefixes: /keysXYZ is /keys.
      const [, list = ""] = /^\/(keys|tags)/.exec(path) ?? [];
      const read = lists[list];
      if (read) {
        run(request, response, async (_, signal) => nullIfEmpty(await read(signal)));
        return list;
      }
      if (path.startsWith("/ping")) {
        sendText(response, 200, "pong");
        return "ping";
      }
    }
    sendText(response, 404, "404 page not found\n");
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
    return [500, error instanceof WarehouseError ? error.message : "the stats service failed; its log says more"];
  }

  return handle;
}

function nullIfEmpty(names: string[]): string[] | null {
  return names.length === 0 ? null : names;
}
