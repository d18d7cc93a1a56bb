// Connect, gRPC and gRPC-Web on the stats port: who may call, what browsers are told, which services there are.
import { Code, ConnectError, type ConnectRouter, cors, type HandlerContext } from "@connectrpc/connect";
import { Counter, type Registry } from "prom-client";
import { PersonService } from "#gen/millrace/identity/v1/persons_pb.ts";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { DeadLetterService } from "#gen/millrace/stats/v1/dead_letters_pb.ts";
import { EventQueryService } from "#gen/millrace/stats/v1/event_queries_pb.ts";
import { ReceiptService } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { StatusService } from "#gen/millrace/stats/v1/status_pb.ts";
import { TailService } from "#gen/millrace/stats/v1/tail_pb.ts";
import { allowedHeaders } from "#lib/http/cors.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import { registerReflection } from "#lib/http/rpc-reflection.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Access } from "../access.ts";
import type { EventAccess } from "../event-access.ts";
import type { Live } from "../live/live.ts";
import type { StatsQueries } from "../queries/queries.ts";
import { registerStatsService } from "./stats-service.ts";

export interface StatsRpcOptions {
  queries: StatsQueries;
  live: Pick<Live, "watch">;
  access: Pick<Access, "isAllowed" | "isForeign" | "corsAllow">;
  eventAccess: EventAccess;
  /** Other services on the same port, such as AlertService. */
  registerOthers?: ((router: ConnectRouter, hangUp: HangUp) => void) | undefined;
  /** Ends calls under way; abort it with the ConnectError that they end with. */
  shutdownSignal: AbortSignal;
  registry: Registry;
  logger: Logger;
  nowMs: () => number;
}

/** Answers and returns true if the path is an RPC's; leaves any other request untouched. */
export type StatsRpc = (request: HttpRequest, response: HttpResponse) => boolean;

/** Cuts the connection (HTTP/2: the stream) of the call. */
export type HangUp = (context: HandlerContext) => void;

interface StatsCall {
  hangUp(): void;
}

const MESSAGE_BYTES_MAX = 1024 * 1024;
const ALERTS = `/${AlertService.typeName}/`;
/** Those that show events. */
const OF_EVENTS = [DeadLetterService, EventQueryService, ReceiptService, StatusService, TailService].map(
  ({ typeName }) => `/${typeName}/`,
);
const PREFLIGHT_SECONDS = 7200;
const CORS_METHODS = "GET, POST";
const CORS_HEADERS = [...cors.allowedHeaders, "Authorization", "X-Auth-Token", "X-Api-Key"].join(", ").toLowerCase();
const CORS_EXPOSED = [...cors.exposedHeaders, "Retry-After"].join(", ").toLowerCase();

export function createStatsRpc(options: StatsRpcOptions): StatsRpc {
  const { access, queries, live, nowMs } = options;
  const { corsAllow } = access;
  const answered = new Counter({
    name: "millrace_stats_rpcs_total",
    help: "RPCs answered, by method and by HTTP status or gRPC code.",
    labelNames: ["method", "code"],
    registers: [options.registry],
  });
  const handler = createRpcHandler<StatsCall>({
    maxMessageBytes: MESSAGE_BYTES_MAX,
    keepsDeadlines: true,
    shutdownSignal: options.shutdownSignal,
    logger: options.logger,
    routes(router, callOf) {
      const hangUp = (context: HandlerContext) => callOf(context).hangUp();
      registerStatsService(router, { queries, live, hangUp, nowMs });
      options.registerOthers?.(router, hangUp);
      registerReflection(router, [PersonService]);
    },
  });

  function refusalOf(request: HttpRequest, path: string): ConnectError | undefined {
    if (OF_EVENTS.some((service) => path.startsWith(service))) {
      const { eventAccess } = options;
      const refusal = handler.changes(path) ? eventAccess.replayRefusalOf(request) : eventAccess.refusalOf(request);
      const code = refusal?.why === "unknown" ? Code.Unauthenticated : Code.PermissionDenied;
      return refusal && new ConnectError(refusal.message, code);
    }
    if (!access.isAllowed(request)) {
      const message = "the token is missing or wrong: send STATS_TOKEN as authorization: Bearer TOKEN";
      return new ConnectError(message, Code.Unauthenticated);
    }
    // Alerts have webhook URLs, which are secrets of the people who made them.
    if (!access.isForeign(request) || !(handler.changes(path) || path.startsWith(ALERTS))) return undefined;
    const message =
      "web pages need STATS_TOKEN to be set and sent, or CORS_ALLOW to name them, for alerts and for calls that change something";
    return new ConnectError(message, Code.PermissionDenied);
  }

  return (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (!handler.serves(path)) return false;
    if (corsAllow !== "") {
      response.setHeader("access-control-allow-origin", corsAllow);
      response.setHeader("access-control-expose-headers", CORS_EXPOSED);
    }
    if (request.method === "OPTIONS") {
      preflight(request, response, corsAllow !== "");
      return true;
    }
    const call = refusalOf(request, path) ?? { hangUp: () => void response.destroy() };
    void handler
      .handle(request, response, path, call)
      .then((code) => answered.inc({ method: path.slice(path.lastIndexOf("/") + 1), code }));
    return true;
  };
}

function preflight(request: HttpRequest, response: HttpResponse, isAllowed: boolean): void {
  const allowed = {
    "access-control-allow-methods": CORS_METHODS,
    "access-control-allow-headers": allowedHeaders(CORS_HEADERS, request),
    "access-control-max-age": String(PREFLIGHT_SECONDS),
  };
  response.writeHead(204, isAllowed ? allowed : {});
  response.end();
}
