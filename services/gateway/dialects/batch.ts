// POST /batch/ and GET /health as product-analytics clients know them, and every path that is nobody else's. The order of
// the checks is part of the contract: of several faults the caller hears of the first.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import type { FieldNames, RequestFacts } from "#lib/events/validate.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/runtime/http-message.ts";
import type { Lease } from "../admission.ts";
import { type Keys, keyOf } from "../auth.ts";
import { BATCH_CORS, type Cors } from "../cors.ts";
import {
  busyError,
  type Caller,
  type CallerOf,
  encodingOf,
  HttpError,
  mediaType,
  rateLimitedError,
  readBody,
  sendJson,
  type Target,
} from "../http-request.ts";
import { type Ingest, IngestUnavailableError, type Verdict } from "../ingest.ts";
import { type Origins, originOf } from "../origins.ts";
import type { RateLimit } from "../rate-limit.ts";
import { type Envelope, parseBody, readEnvelope } from "./batch-body.ts";
import { createDropLog } from "./batch-drops.ts";
import { readEvents } from "./batch-events.ts";

const FIELD_NAMES: FieldNames = {
  id: "uuid",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "properties",
};
/** What an event costs beside its bytes while it waits for the log. */
const EVENT_OVERHEAD_BYTES = 256;
const DIALECT = "batch";
const HEALTHY = { ok: true };

export interface BatchOptions {
  ingest: Ingest;
  admit(request: HttpRequest): Lease | undefined;
  keys: Keys;
  origins: Origins;
  cors: Cors;
  rateLimit: RateLimit;
  callerOf: CallerOf;
  maxBodyBytes: number;
  maxEvents: number;
  nowMs: () => number;
  logger: Logger;
}

export interface BatchDialect {
  /** Answers, unless the caller has gone, and resolves with the status for the metrics. */
  handle(
    request: HttpRequest,
    response: HttpResponse,
    target: Target,
    traceparent: string | undefined,
  ): Promise<string>;
}

interface Call {
  request: HttpRequest;
  caller: Caller;
  lease: Lease;
  traceparent: string | undefined;
}

export function createBatchDialect(options: BatchOptions): BatchDialect {
  const { cors, keys, maxBodyBytes, maxEvents, origins, rateLimit } = options;
  const logDropped = createDropLog(options.logger);

  async function handle(
    request: HttpRequest,
    response: HttpResponse,
    target: Target,
    traceparent: string | undefined,
  ): Promise<string> {
    cors.attach(request, response, BATCH_CORS);
    try {
      if (request.method === "OPTIONS") {
        const status = cors.preflight(request, response, BATCH_CORS);
        if (status === undefined) throw notFound();
        return String(status);
      }
      sendJson(response, 200, await answer(request, target, traceparent));
      return "200";
    } catch (error) {
      if (!(error instanceof HttpError) && isCallerGone(response)) return "gone";
      return await refuse(request, response, error);
    }
  }

  async function refuse(request: HttpRequest, response: HttpResponse, error: unknown): Promise<string> {
    // By then a short body has arrived, and the connection can go on after the answer.
    await nextTurn();
    if (!(error instanceof HttpError)) {
      options.logger.error({ err: error }, "request failed unexpectedly");
      sendJson(response, 500, { status: "error", error: "internal error" });
      return "500";
    }
    const body = error.status === 404 ? notFoundBody(request) : { status: "error", error: error.message };
    sendJson(response, error.status, body, error.headers);
    return String(error.status);
  }

  async function answer(request: HttpRequest, { path, query }: Target, traceparent: string | undefined) {
    // Asked for before the first await.
    const caller = options.callerOf(request);
    if (query.includes("compression") && new URLSearchParams(query).has("compression")) {
      throw new HttpError(415, "compression: is not supported in the query; use the header content-encoding: gzip");
    }
    encodingOf(request);
    const { method = "" } = request;
    if (path === "/health" && (method === "GET" || method === "HEAD")) return HEALTHY;
    if (method === "GET" || method === "HEAD" || isRpc(request)) throw notFound();
    const type = bodyTypeOf(request);
    const lease = options.admit(request);
    if (!lease) throw busyError("too many bytes in flight; send the request again");
    try {
      const parsed = type === "none" ? undefined : await read(request, type, lease);
      if (path !== "/batch/" || method !== "POST") throw notFound();
      if (type !== "json") throw new HttpError(415, "content-type: must be application/json");
      return await accept(readEnvelope(parsed), { request, caller, lease, traceparent });
    } finally {
      lease.release();
    }
  }

  /** What is wrong with the bytes ends the connection as well. */
  async function read(request: HttpRequest, type: "json" | "text", lease: Lease): Promise<unknown> {
    try {
      const bytes = await readBody(request, maxBodyBytes, lease);
      return type === "json" ? parseBody(bytes) : undefined;
    } catch (error) {
      if (!(error instanceof HttpError) || error.status >= 500 || request.httpVersionMajor !== 1) throw error;
      const headers = { ...error.headers, connection: "close" };
      throw new HttpError(error.status, error.message, { headers, cause: error });
    }
  }

  async function accept(envelope: Envelope, { request, caller, lease, traceparent }: Call) {
    const access = authorise(request, envelope.key);
    const { length } = envelope.batch;
    if (length > maxEvents) {
      throw new HttpError(413, `batch: has ${length} events; one request may have MAX_EVENTS_PER_BATCH (${maxEvents})`);
    }
    const limited = { key: access.apiKey, address: caller.address, dialect: DIALECT };
    const waitSeconds = rateLimit.take(limited, length);
    if (waitSeconds > 0) throw rateLimitedError(waitSeconds);
    const receivedUs = options.nowMs() * 1000;
    const { inputs, indexes, dropped } = readEvents(envelope, receivedUs);
    if (!lease.grow(inputs.length * EVENT_OVERHEAD_BYTES)) {
      throw busyError("too many bytes in flight; send the request again");
    }
    if (inputs.length === 0) return { status: "ok", ingested: 0, dropped };
    const { ip, userAgent } = caller;
    const facts: RequestFacts = { receivedUs, ...access, ip, userAgent, checkStored: envelope.checkStored };
    const verdict = await publish({ events: inputs, names: FIELD_NAMES, facts, dialect: DIALECT, traceparent });
    if (verdict.rejected.length > 0) logDropped(verdict.rejected, indexes);
    return { status: "ok", ingested: verdict.accepted, dropped: dropped + verdict.rejected.length };
  }

  /** Browsers of a listed Origin need no key; a key that is given must be ours. No key set is no key accepted. */
  function authorise(request: HttpRequest, bodyKey: string): { apiKey: string; trusted: boolean } {
    const origin = originOf(request);
    if (origin !== "" && !origins.allows(origin)) {
      throw new HttpError(
        403,
        `origin: ${origin.slice(0, 100)} is not allowed; add it to ALLOWED_ORIGINS as it stands`,
      );
    }
    const given = bodyKey || keyOf(request);
    if (given === "" && origin !== "") return { apiKey: "", trusted: false };
    const grant = given === "" ? undefined : keys.find(given);
    if (grant) return { apiKey: grant.key, trusted: grant.isSecret && origin === "" };
    throw new HttpError(
      401,
      'api_key: is missing or unknown; send one of PUBLIC_API_KEYS or SECRET_API_KEYS as "api_key" beside "batch"',
    );
  }

  /** Resolves when every event that is not at fault is durable. */
  async function publish(request: Parameters<Ingest["publish"]>[0]): Promise<Verdict> {
    const again = "the event log is unavailable; send the request again with the same uuids";
    let verdict: Verdict;
    try {
      verdict = await options.ingest.publish(request);
    } catch (error) {
      if (error instanceof IngestUnavailableError) throw busyError(again, error);
      throw error;
    }
    if (verdict.rejected.some(({ retryable }) => retryable)) throw busyError(again);
    return verdict;
  }

  return { handle };
}

/** A request whose answer an RPC client reads: it understands 404, and nothing of a 415. */
function isRpc(request: HttpRequest): boolean {
  return /^application\/(?:grpc|connect|proto)/.test(mediaType(request));
}

function bodyTypeOf(request: HttpRequest): "json" | "text" | "none" {
  const { headers } = request;
  if (headers["content-type"] === undefined && isBodyless(request)) return "none";
  const type = mediaType(request);
  if (type === "application/json") return "json";
  if (type === "text/plain") return "text";
  throw new HttpError(415, `content-type: must be application/json, not "${type.slice(0, 80)}"`);
}

function isBodyless(request: HttpRequest): boolean {
  if ("stream" in request) return request.stream.endAfterHeaders;
  const { "content-length": length = "0", "transfer-encoding": encoding } = request.headers;
  return encoding === undefined && length === "0";
}

function notFound(): HttpError {
  return new HttpError(404, "not found");
}

/** The shape of the framework that the contract's own server is made with. */
function notFoundBody({ method, url }: HttpRequest) {
  const message = `Route ${method}:${url} not found; events go to POST /batch/, POST /events or an RPC`;
  return { message, error: "Not Found", statusCode: 404 };
}
