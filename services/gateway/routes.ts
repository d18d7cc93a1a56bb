// Path → dialect. Everything a caller can reach is listed here.
import type { Logger } from "pino";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import type { Health } from "#lib/runtime/health.ts";
import { contextFrom, traceparentOf, withSpan } from "#lib/runtime/telemetry.ts";
import type { Admission, Lease } from "./admission.ts";
import { type Keys, keyOf } from "./auth.ts";
import { acceptEvent } from "./dialects/events.ts";
import type { RpcHandler } from "./dialects/rpc-handler.ts";
import {
  busyError,
  callerOf,
  declaredLength,
  HttpError,
  type HttpRequest,
  type HttpResponse,
  isCallerGone,
  mediaType,
  readBody,
  sendJson,
} from "./http-request.ts";
import type { Ingest } from "./ingest.ts";
import { cancelWhenLate } from "./late-body.ts";
import type { GatewayMetrics } from "./metrics.ts";

const PUBLISH_PATH = `/${EventService.typeName}/${EventService.method.publish.name}`;

export interface RoutesOptions {
  ingest: Ingest;
  rpc: RpcHandler;
  admission: Admission;
  keys: Keys;
  health: Health;
  metrics: GatewayMetrics;
  maxBodyBytes: number;
  /** Time for a whole request to arrive, unless it is a stream. */
  requestTimeoutMs: number;
  nowMs: () => number;
  logger: Logger;
}

export function createRoutes(options: RoutesOptions): (request: HttpRequest, response: HttpResponse) => void {
  const { health, keys, metrics, rpc, logger } = options;

  async function route(request: HttpRequest, response: HttpResponse): Promise<void> {
    const path = request.url?.split("?", 1)[0] ?? "";
    const dialect = rpc.serves(path) ? protocolOf(request) : path === "/events" ? "events" : "none";
    const begun = performance.now();
    if (!rpc.streams(path)) cancelWhenLate(request, options.requestTimeoutMs);
    let code: string;
    try {
      code = rpc.serves(path) ? await call(request, response, path, dialect) : await plain(request, response, path);
    } catch (error) {
      logger.error({ err: error, path: path.slice(0, 100) }, "request failed unexpectedly");
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: "internal error" });
      code = "500";
    }
    metrics.requests.inc({ dialect, code });
    metrics.requestSeconds.observe({ dialect }, (performance.now() - begun) / 1000);
  }

  /** A body declared beyond the limit is let in, to be told that it is too large rather than to come again. */
  function admit(request: HttpRequest): Lease | undefined {
    const declared = declaredLength(request);
    return options.admission.open(declared > options.maxBodyBytes ? 0 : declared);
  }

  async function call(request: HttpRequest, response: HttpResponse, path: string, dialect: string): Promise<string> {
    const apiKey = keys.authorise(keyOf(request));
    const lease = apiKey === undefined ? undefined : admit(request);
    try {
      return await inSpan(request, path, (traceparent) =>
        rpc.handle(request, response, path, {
          refusal: apiKey === undefined ? "unauthenticated" : lease ? undefined : "busy",
          lease,
          apiKey: apiKey ?? "",
          ...callerOf(request),
          dialect,
          traceparent,
        }),
      );
    } finally {
      lease?.release();
    }
  }

  async function plain(request: HttpRequest, response: HttpResponse, path: string): Promise<string> {
    try {
      if (path !== "/events")
        throw new HttpError(404, `no such path; events go to POST /events or to RPC ${PUBLISH_PATH}`);
      await inSpan(request, "POST /events", (traceparent) => postEvent(request, traceparent));
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
    const apiKey = keys.authorise(keyOf(request));
    if (apiKey === undefined)
      throw new HttpError(401, "the api key is missing or unknown: send authorization: Bearer KEY");
    if (mediaType(request) !== "application/json") {
      throw new HttpError(415, `content-type: must be application/json, not "${mediaType(request).slice(0, 80)}"`);
    }
    const caller = callerOf(request);
    const lease = admit(request);
    if (!lease) throw busyError("too many bytes in flight; try again");
    try {
      const body = await readBody(request, options.maxBodyBytes, lease);
      const facts = {
        receivedUs: options.nowMs() * 1000,
        apiKey,
        ...caller,
        checkStored: false,
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

function inSpan<T>(
  request: HttpRequest,
  name: string,
  run: (traceparent: string | undefined) => Promise<T>,
): Promise<T> {
  const parent = contextFrom(request.headers.traceparent);
  return withSpan(name, { kind: "server", parent }, (span) => run(traceparentOf(span)));
}

function protocolOf(request: HttpRequest): string {
  const type = mediaType(request);
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}
