// Path → dialect. Everything a caller can reach is listed here.
import type { Logger } from "pino";
import { REPLAY_PATH } from "#lib/events/replay-request.ts";
import type { BodyPatience } from "#lib/http/body-chunks.ts";
import type { Health } from "#lib/http/health.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import { type Admit, holderOf } from "./admit.ts";
import { type Grant, type Keys, keyOf } from "./auth.ts";
import { type Cors, RPC_CORS } from "./cors.ts";
import type { BatchDialect } from "./dialects/batch.ts";
import { acceptEvent } from "./dialects/events.ts";
import type { ReplayDialect } from "./dialects/replay.ts";
import type { RpcHandler } from "./dialects/rpc-handler.ts";
import {
  busyError,
  type CallerOf,
  HttpError,
  mediaType,
  rateLimitedError,
  readBody,
  sendJson,
  type Target,
  targetOf,
} from "./http-request.ts";
import type { Ingest } from "./ingest.ts";
import { cancelWhenLate } from "./late-body.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { sendOpenApi } from "./openapi.ts";
import { originOf } from "./origins.ts";
import type { RateLimit } from "./rate-limit.ts";
import { inRequestSpan } from "./request-span.ts";

export const PLAIN_DIALECTS: ReadonlyMap<string, string> = new Map([
  ["/events", "events"],
  ["/batch/", "batch"],
  [REPLAY_PATH, "replay"],
  ["/openapi.json", "openapi"],
]);

export interface RoutesOptions {
  ingest: Ingest;
  rpc: RpcHandler;
  /** Serves every path that is not another dialect's. */
  batch: BatchDialect;
  replay: ReplayDialect;
  admit: Admit;
  patience: BodyPatience;
  keys: Keys;
  cors: Cors;
  rateLimit: RateLimit;
  callerOf: CallerOf;
  health: Health;
  metrics: GatewayMetrics;
  maxBodyBytes: number;
  /** Time for a whole request to arrive, unless it is a stream. */
  requestTimeoutMs: number;
  nowMs: () => number;
  logger: Logger;
}

export function createRoutes(options: RoutesOptions): (request: HttpRequest, response: HttpResponse) => void {
  const { cors, health, keys, metrics, rpc, logger } = options;

  async function route(request: HttpRequest, response: HttpResponse): Promise<void> {
    const target = targetOf(request);
    const dialect = dialectOf(request, target);
    const begun = performance.now();
    if (!target || !rpc.streams(target.path)) cancelWhenLate(request, options.requestTimeoutMs);
    let code: string;
    try {
      code = target ? await serve(request, response, target, dialect) : refuseTarget(request, response);
    } catch (error) {
      logger.error({ err: error, path: target?.path.slice(0, 100) }, "request failed unexpectedly");
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: "internal error" });
      code = "500";
    }
    metrics.requests.inc({ dialect, code });
    metrics.requestSeconds.observe({ dialect }, (performance.now() - begun) / 1000);
  }

  function dialectOf(request: HttpRequest, target: Target | undefined): string {
    if (!target) return "none";
    if (rpc.serves(target.path)) return protocolOf(request);
    return PLAIN_DIALECTS.get(target.path) ?? "none";
  }

  async function serve(request: HttpRequest, response: HttpResponse, target: Target, dialect: string): Promise<string> {
    if (rpc.serves(target.path)) return call(request, response, target, dialect);
    const { path } = target;
    if (dialect === "events")
      return inRequestSpan(request, { path }, (traceparent) => plain(request, response, traceparent));
    if (dialect === "replay") return options.replay(request, response);
    if (dialect === "openapi") return sendOpenApi(request, response);
    if (dialect === "none") return options.batch.handle(request, response, target, undefined);
    return inRequestSpan(request, { path }, (traceparent) =>
      options.batch.handle(request, response, target, traceparent),
    );
  }

  async function call(request: HttpRequest, response: HttpResponse, target: Target, dialect: string): Promise<string> {
    const { path } = target;
    cors.attach(request, response, RPC_CORS);
    if (request.method === "OPTIONS") {
      const status = cors.preflight(request, response, RPC_CORS);
      return status === undefined ? options.batch.handle(request, response, target, undefined) : String(status);
    }
    const grant = keys.authorise(keyOf(request));
    const caller = options.callerOf(request);
    const lease = grant && options.admit(request, holderOf(grant, caller.address), options.maxBodyBytes);
    try {
      return await inRequestSpan(request, { path, rpc: dialect }, (traceparent) =>
        rpc.handle(request, response, path, {
          refusal: grant === undefined ? "unauthenticated" : lease ? undefined : "busy",
          lease,
          apiKey: grant?.key ?? "",
          trusted: isTrusted(request, grant),
          ...caller,
          dialect,
          traceparent,
        }),
      );
    } finally {
      lease?.release();
    }
  }

  async function plain(request: HttpRequest, response: HttpResponse, traceparent: string | undefined): Promise<string> {
    try {
      await postEvent(request, traceparent);
      sendJson(response, 200, { status: "accepted" });
      return "200";
    } catch (error) {
      if (!(error instanceof HttpError)) {
        if (isCallerGone(response)) return "gone";
        throw error;
      }
      sendJson(response, error.status, { error: error.message }, error.headers);
      return String(error.status);
    }
  }

  async function postEvent(request: HttpRequest, traceparent: string | undefined): Promise<void> {
    if (request.method !== "POST") throw new HttpError(405, "use POST", { headers: { allow: "POST" } });
    const grant = keys.authorise(keyOf(request));
    if (grant === undefined)
      throw new HttpError(401, "the api key is missing or unknown: send authorization: Bearer KEY");
    if (mediaType(request) !== "application/json") {
      throw new HttpError(415, `content-type: must be application/json, not "${mediaType(request).slice(0, 80)}"`);
    }
    const { address, ip, userAgent } = options.callerOf(request);
    const { maxBodyBytes: maxBytes, patience } = options;
    const lease = options.admit(request, holderOf(grant, address), maxBytes);
    if (!lease) throw busyError("too many bytes in flight; try again");
    try {
      const body = await readBody(request, { maxBytes, lease, patience });
      const waitSeconds = options.rateLimit.take({ key: grant.key, address, dialect: "events" }, 1);
      if (waitSeconds > 0) throw rateLimitedError(waitSeconds);
      const facts = {
        receivedUs: options.nowMs() * 1000,
        apiKey: grant.key,
        ip,
        userAgent,
        checkStored: false,
        trusted: isTrusted(request, grant),
      };
      await acceptEvent(options.ingest, body, { facts, traceparent });
    } finally {
      lease.release();
    }
  }

  return (request, response) => {
    if (!health.handle(request, response)) void route(request, response);
  };
}

/** The undecodable URL of the product-analytics contract: the one answer without a word to browsers. */
function refuseTarget(request: HttpRequest, response: HttpResponse): string {
  const message = `'${request.url}' is not a valid url component`;
  sendJson(response, 400, { error: "Bad Request", code: "FST_ERR_BAD_URL", message, statusCode: 400 });
  return "400";
}

/** A secret key, and no web page that could have it. */
function isTrusted(request: HttpRequest, grant: Grant | undefined): boolean {
  return grant?.isSecret === true && originOf(request) === "";
}

function protocolOf(request: HttpRequest): string {
  const type = mediaType(request);
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}
