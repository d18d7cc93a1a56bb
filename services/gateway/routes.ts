// Path → wire. Everything a caller can reach is listed here, and every answer of a plain wire is written here.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ConnectError } from "@connectrpc/connect";
import { Health as HealthService } from "#gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { send, sendEmpty, sendJson } from "#lib/http/answers.ts";
import { mediaType } from "#lib/http/body.ts";
import { BATCH_CORS, type Cors, type CorsRules, RPC_CORS } from "#lib/http/cors.ts";
import type { Health } from "#lib/http/health.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import type { RpcHandler } from "#lib/http/rpc-handler.ts";
import { refuseUnknownRpc } from "#lib/http/unknown-rpc.ts";
import { cancelWhenLate } from "#lib/http/unread-body.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Edge } from "./edge.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { sendOpenApi } from "./openapi.ts";
import { REFUSALS, Refused, refused, toConnectError } from "./refusals.ts";
import { inRequestSpan } from "./request-span.ts";
import { type Arrival, Reply, type Target, type Wire } from "./wire.ts";
import { createWireTable, type Found, WIRES, type WireName, type WireRules } from "./wire-table.ts";
import { isCloudEvent } from "./wires/cloudevents.ts";
import { NOWHERE } from "./wires/nowhere.ts";
import { isPlainPublish, PUBLISH_RULES } from "./wires/publish.ts";
import { openEntry, type RpcCall } from "./wires/rpc.ts";

const OPENAPI_PATH = "/openapi.json";
const [CLOUDEVENTS_PATH] = WIRES.cloudevents.paths;
/** What anyone may ask. */
const OPEN_PATHS = [HealthService, ServerReflection].map(({ typeName }) => `/${typeName}/`);

export interface RoutesOptions {
  edge: Edge;
  wires: Readonly<Record<WireName, Wire>>;
  /** Of the RPC's most frequent form. */
  publish: Wire;
  rpc: RpcHandler<RpcCall>;
  cors: Cors;
  health: Health;
  metrics: GatewayMetrics;
  /** Counts it, and keeps what those may hear who ask later. */
  noteRefused(error: Refused): void;
  /** Time for a whole request to arrive, unless it is a stream. */
  requestTimeoutMs: number;
  logger: Logger;
}

export function createRoutes(options: RoutesOptions): (request: HttpRequest, response: HttpResponse) => void {
  const { cors, edge, health, metrics, rpc, logger } = options;
  const wireAt = createWireTable(
    Object.entries(options.wires).map(([name, wire]) => ({ rules: WIRES[name as WireName] as WireRules, wire })),
  );

  async function route(request: HttpRequest, response: HttpResponse): Promise<void> {
    const target = targetOf(request);
    const found = target && !rpc.serves(target.path) ? wireFor(request, target.path) : undefined;
    const dialect = dialectOf(request, target, found);
    const begun = performance.now();
    if (!target || !rpc.streams(target.path)) cancelWhenLate(request, options.requestTimeoutMs);
    let code: string;
    try {
      code = target ? await serve(request, response, target, dialect, found) : refuseTarget(request, response);
    } catch (error) {
      code = isCallerGone(response) ? "gone" : refuse(response, toRefused(error), { error: "internal error" });
      if (code !== "gone" && response.headersSent) response.destroy();
    }
    metrics.requests.inc({ dialect, code });
    metrics.requestSeconds.observe({ dialect }, (performance.now() - begun) / 1000);
  }

  /** A CloudEvent that comes to the path of the single events is the other wire's. */
  function wireFor(request: HttpRequest, path: string): FoundWire | undefined {
    const found = wireAt(path);
    return found?.wire.rules === WIRES.events && isCloudEvent(request) ? wireAt(CLOUDEVENTS_PATH) : found;
  }

  function dialectOf(request: HttpRequest, target: Target | undefined, found: FoundWire | undefined): string {
    if (!target) return "none";
    if (rpc.serves(target.path)) return protocolOf(request);
    if (target.path === OPENAPI_PATH) return "openapi";
    return found?.wire.rules.dialect ?? "none";
  }

  function serve(
    request: HttpRequest,
    response: HttpResponse,
    target: Target,
    dialect: string,
    found: FoundWire | undefined,
  ): Promise<string> {
    const { path } = target;
    if (rpc.serves(path)) {
      if (!isPlainPublish(request, path)) return call(request, response, target, dialect);
      return inRequestSpan(request, { path, rpc: dialect }, (traceparent) =>
        plain(options.publish, PUBLISH_RULES, request, response, { ...target, parts: [], traceparent }),
      );
    }
    if (path === OPENAPI_PATH) return Promise.resolve(sendOpenApi(request, response));
    if (!found && request.method === "POST") {
      cors.attach(request, response, RPC_CORS);
      if (refuseUnknownRpc(request, response)) {
        note(refused("not_found", { method: "POST", url: path }));
        return Promise.resolve("grpc_12");
      }
    }
    const { rules, wire } = found?.wire ?? NOBODY;
    const parts = found?.parts ?? [];
    if (!rules.isTraced) return plain(wire, rules, request, response, { ...target, parts, traceparent: undefined });
    return inRequestSpan(request, { path }, (traceparent) =>
      plain(wire, rules, request, response, { ...target, parts, traceparent }),
    );
  }

  /** Undefined: the request is no preflight, and is still to be answered. */
  function preflight(request: HttpRequest, response: HttpResponse, rules: CorsRules): string | undefined {
    cors.attach(request, response, rules);
    if (request.method !== "OPTIONS") return undefined;
    const status = cors.preflight(request, response, rules);
    if (status !== undefined) return String(status);
    const error = refused("not_found", { method: "OPTIONS", url: request.url ?? "" });
    return refuse(response, error, bodyOf(NOWHERE, error));
  }

  async function call(request: HttpRequest, response: HttpResponse, target: Target, dialect: string): Promise<string> {
    const { path } = target;
    const preflighted = preflight(request, response, RPC_CORS);
    if (preflighted !== undefined) return preflighted;
    const entered = OPEN_PATHS.some((open) => path.startsWith(open)) ? openEntry(dialect) : enter(request, dialect);
    try {
      return await inRequestSpan(request, { path, rpc: dialect }, (traceparent) =>
        rpc.handle(request, response, path, isEntry(entered) ? { entry: entered, traceparent } : entered),
      );
    } finally {
      if (isEntry(entered)) entered[Symbol.dispose]();
    }
  }

  function enter(request: HttpRequest, dialect: string): RpcCall["entry"] | ConnectError {
    try {
      return edge(request, { dialect, access: "key" });
    } catch (error) {
      const told = toConnectError(error);
      if (!told) throw error;
      note(error as Refused);
      return told;
    }
  }

  async function plain(
    wire: Wire,
    { cors: rules }: WireRules,
    request: HttpRequest,
    response: HttpResponse,
    arrival: Arrival,
  ): Promise<string> {
    if (rules) {
      const preflighted = preflight(request, response, rules);
      if (preflighted !== undefined) return preflighted;
    }
    try {
      return reply(response, await wire.answer(request, arrival));
    } catch (error) {
      if (!(error instanceof Refused) && isCallerGone(response)) return "gone";
      // By then a short body has arrived, and the connection can go on after the answer.
      await nextTurn();
      const told = toRefused(error);
      const closes = request.httpVersionMajor === 1 && wire.closesAfter?.(told) === true;
      const { status, headers } = wire.refusalHead?.(told) ?? {};
      return refuse(response, told, bodyOf(wire, told), { ...headers, ...(closes && { connection: "close" }) }, status);
    }
  }

  function refuse(
    response: HttpResponse,
    error: Refused,
    body: unknown,
    headers: Record<string, string> = {},
    status = error.status,
  ): string {
    note(error);
    if (!response.headersSent) sendJson(response, status, body, { ...error.headers, ...headers });
    return String(status);
  }

  function note(error: Refused): void {
    const { level } = REFUSALS[error.refusal];
    options.noteRefused(error);
    if (level === "error") logger.error({ err: error.cause }, "request failed unexpectedly");
    else logger.debug({ refusal: error.refusal }, "request refused");
  }

  return (request, response) => {
    if (!health.handle(request, response)) void route(request, response);
  };
}

type FoundWire = Found<{ rules: WireRules; wire: Wire }>;

/** Every path that is in no table. */
const NOBODY: FoundWire["wire"] = {
  rules: { dialect: "none", paths: [], access: "anyone", cors: BATCH_CORS },
  wire: NOWHERE,
};

/** Answers, and returns the status for the metrics. */
function reply(response: HttpResponse, answer: unknown): string {
  if (!(answer instanceof Reply)) {
    sendJson(response, 200, answer);
    return "200";
  }
  const { status, body, headers } = answer;
  if (body === undefined) sendEmpty(response, status, headers);
  else if (headers["content-type"] !== undefined)
    send(response, status, Buffer.isBuffer(body) ? body : String(body), headers);
  else sendJson(response, status, body, headers);
  return String(status);
}

function isEntry(entered: RpcCall["entry"] | ConnectError): entered is RpcCall["entry"] {
  return !(entered instanceof Error);
}

function toRefused(error: unknown): Refused {
  return error instanceof Refused ? error : refused("internal", {}, error);
}

/** A path that is not there is told in the shape of the framework that the original of /batch/ is made with. */
function bodyOf(wire: Wire, error: Refused): unknown {
  if (error.refusal === "not_found") return { message: error.message, error: "Not Found", statusCode: error.status };
  return wire.refusalBody(error);
}

/** The undecodable URL of the product-analytics contract: the one answer without a word to browsers. */
function refuseTarget(request: HttpRequest, response: HttpResponse): string {
  const { status, message } = refused("path_undecodable", { url: request.url ?? "" });
  sendJson(response, status, { error: "Bad Request", code: "FST_ERR_BAD_URL", message, statusCode: status });
  return String(status);
}

/** Undefined for a path whose escapes make no text. */
function targetOf(request: HttpRequest): Target | undefined {
  const [beforeFragment = ""] = (request.url ?? "").split("#", 1);
  const at = beforeFragment.indexOf("?");
  const path = at < 0 ? beforeFragment : beforeFragment.slice(0, at);
  const query = at < 0 ? "" : beforeFragment.slice(at + 1);
  if (!path.includes("%")) return { path, query };
  try {
    return { path: decodeURI(path), query };
  } catch {
    // decodeURI throws for escapes it cannot decode, nothing else.
    return undefined;
  }
}

function protocolOf(request: HttpRequest): string {
  const type = mediaType(request);
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  return type.startsWith("application/grpc") ? "grpc" : "connect";
}
