// Connect, gRPC and gRPC-Web on the stats port: who may call, what browsers are told, which services there are.
import type { ServerResponse } from "node:http";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  cors,
  createContextKey,
  type HandlerContext,
} from "@connectrpc/connect";
import type { Logger } from "pino";
import { Counter, type Registry } from "prom-client";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import { givenToken } from "../live/given-token.ts";
import type { Live } from "../live/live.ts";
import type { StatsQueries } from "../queries/queries.ts";
import { retryLater } from "./errors.ts";
import { registerStatsService } from "./stats-service.ts";

export interface StatsRpcOptions {
  queries: StatsQueries;
  live: Pick<Live, "watch">;
  /** Undefined: open. */
  isToken: ((given: string) => boolean) | undefined;
  /** Value of Access-Control-Allow-Origin; "" sends none. */
  corsAllow: string;
  /** Other services on the same port, such as AlertService. */
  registerOthers?: ((router: ConnectRouter) => void) | undefined;
  /** Ends calls under way; abort it with the ConnectError that they end with. */
  shutdownSignal: AbortSignal;
  registry: Registry;
  logger: Logger;
  nowMs: () => number;
}

/** Answers and returns true if the path is an RPC's; leaves any other request untouched. */
export type StatsRpc = (request: HttpRequest, response: HttpResponse) => boolean;

interface StatsCall {
  lease: undefined;
  refusal: "stranger" | "foreign page" | undefined;
  hangUp(): void;
}

const STATS_CALL = createContextKey<StatsCall | undefined>(undefined);
const MESSAGE_BYTES_MAX = 1024 * 1024;
const PREFLIGHT_SECONDS = 7200;
const CORS_METHODS = "GET, POST";
const CORS_HEADERS = [...cors.allowedHeaders, "Authorization", "X-Auth-Token"].join(", ").toLowerCase();
const CORS_EXPOSED = [...cors.exposedHeaders, "Retry-After"].join(", ").toLowerCase();

export function createStatsRpc(options: StatsRpcOptions): StatsRpc {
  const { isToken, corsAllow, queries, live, nowMs } = options;
  const answered = new Counter({
    name: "millrace_stats_rpcs_total",
    help: "RPCs answered, by method and by HTTP status or gRPC code.",
    labelNames: ["method", "code"],
    registers: [options.registry],
  });
  const hangUp = (context: HandlerContext) => context.values.get(STATS_CALL)?.hangUp();
  const handler = createRpcHandler({
    callKey: STATS_CALL,
    gate,
    tooBusy: () => retryLater("too many bytes in flight; try again", Code.ResourceExhausted),
    maxMessageBytes: MESSAGE_BYTES_MAX,
    keepsDeadlines: true,
    shutdownSignal: options.shutdownSignal,
    logger: options.logger,
    routes(router) {
      registerStatsService(router, { queries, live, hangUp, nowMs });
      options.registerOthers?.(router);
    },
  });

  /** Without a token every page on the web could have this machine do something; reading is what CORS_ALLOW decides. */
  function refusalOf(request: HttpRequest, path: string): StatsCall["refusal"] {
    if (isToken) return isToken(givenToken(request)) ? undefined : "stranger";
    const { origin } = request.headers;
    return origin !== undefined && origin !== corsAllow && handler.changes(path) ? "foreign page" : undefined;
  }

  return (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (!handler.serves(path)) return false;
    if (corsAllow !== "") {
      response.setHeader("access-control-allow-origin", corsAllow);
      response.setHeader("access-control-expose-headers", CORS_EXPOSED);
    }
    if (request.method === "OPTIONS") {
      preflight(response, corsAllow !== "");
      return true;
    }
    const call = {
      lease: undefined,
      refusal: refusalOf(request, path),
      hangUp: () => void response.destroy(),
    };
    void handler
      .handle(request, response, path, call)
      .then((code) => answered.inc({ method: path.slice(path.lastIndexOf("/") + 1), code }));
    return true;
  };
}

function gate(context: HandlerContext): void {
  const call = context.values.get(STATS_CALL);
  if (call === undefined) throw new ConnectError("the call has no edge facts", Code.Internal);
  if (call.refusal === "stranger") {
    const message = "the token is missing or wrong: send STATS_TOKEN as authorization: Bearer TOKEN";
    throw new ConnectError(message, Code.Unauthenticated);
  }
  if (call.refusal) {
    const message =
      "web pages need STATS_TOKEN to be set and sent, or CORS_ALLOW to name them, for calls that change something";
    throw new ConnectError(message, Code.PermissionDenied);
  }
}

function preflight(response: HttpResponse, isAllowed: boolean): void {
  // The two response types have the same methods, but their overloads do not unite.
  const out = response as ServerResponse;
  const allowed = {
    "access-control-allow-methods": CORS_METHODS,
    "access-control-allow-headers": CORS_HEADERS,
    "access-control-max-age": String(PREFLIGHT_SECONDS),
  };
  out.writeHead(204, isAllowed ? allowed : {});
  out.end();
}
