// POST /batch/ and GET /health as product-analytics clients know them, and every path that is nobody else's. Of several
// faults the caller hears of the first; nothing is read for a path that is not there.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Logger } from "pino";
import type { FieldNames, RequestFacts } from "#lib/events/validate.ts";
import type { BodyPatience } from "#lib/http/body-chunks.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import type { Holder, Lease } from "../admission.ts";
import { type Admit, holderOf } from "../admit.ts";
import { type Grant, type Keys, keyOf } from "../auth.ts";
import { BATCH_CORS, type Cors } from "../cors.ts";
import {
  busyError,
  type Caller,
  type CallerOf,
  declaredLength,
  encodingOf,
  HttpError,
  mediaType,
  rateLimitedError,
  readBody,
  sendJson,
  type Target,
  tooLarge,
} from "../http-request.ts";
import { type Ingest, IngestUnavailableError, type Verdict } from "../ingest.ts";
import { type Origins, originOf } from "../origins.ts";
import type { RateLimit } from "../rate-limit.ts";
import { type Envelope, parseBody, readEnvelope } from "./batch-body.ts";
import { createDropLog } from "./batch-drops.ts";
import { readEvents } from "./batch-events.ts";
import { BODY_BYTES_MAX, keyAtStart, refuseCostly } from "./batch-stranger.ts";

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
  admit: Admit;
  patience: BodyPatience;
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
    const { method = "" } = request;
    const isHealth = path === "/health" && (method === "GET" || method === "HEAD");
    if (!isHealth && (path !== "/batch/" || method !== "POST" || isRpc(request))) throw notFound();
    if (query.includes("compression") && new URLSearchParams(query).has("compression")) {
      throw new HttpError(415, "compression: is not supported in the query; use the header content-encoding: gzip");
    }
    encodingOf(request);
    if (isHealth) return HEALTHY;
    const type = bodyTypeOf(request);
    if (declaredLength(request) > maxBodyBytes) throw endsConnection(request, tooLarge(maxBodyBytes));
    if (type !== "json") throw new HttpError(415, "content-type: must be application/json");
    const holder = holderFor(request, caller.address);
    const lease = options.admit(request, holder, maxBytesOf(holder));
    if (!lease) throw busyError("too many bytes in flight; send the request again");
    try {
      const parsed = await read(request, holder, lease);
      return await accept(readEnvelope(parsed), { request, caller, lease, traceparent });
    } finally {
      lease.release();
    }
  }

  /** Whose bytes they are until a key is found among them. */
  function holderFor(request: HttpRequest, address: string): Holder {
    const origin = originOf(request);
    const isForeign = origin !== "" && !origins.allows(origin);
    const grant = isForeign ? undefined : keys.authorise(keyOf(request));
    if (grant) return holderOf(grant, address);
    return { kind: origin === "" || isForeign ? "stranger" : "origin", address };
  }

  function maxBytesOf({ kind }: Holder): number {
    return kind === "key" ? maxBodyBytes : Math.min(maxBodyBytes, BODY_BYTES_MAX[kind]);
  }

  /** What is wrong with the bytes ends the connection as well. */
  async function read(request: HttpRequest, holder: Holder, lease: Lease): Promise<unknown> {
    let isKnown = holder.kind === "key";
    const isKnownBy = (beginning: Buffer) => {
      const grant = keys.find(keyAtStart(beginning));
      if (grant) moveTo(lease, grant, holder.address);
      isKnown = grant !== undefined;
      return isKnown;
    };
    const stranger = isKnown ? undefined : { maxBytes: maxBytesOf(holder), isKnownBy };
    try {
      const { patience } = options;
      const bytes = await readBody(request, { maxBytes: maxBodyBytes, lease, patience, ...(stranger && { stranger }) });
      if (!isKnown) refuseCostly(bytes);
      return parseBody(bytes);
    } catch (error) {
      throw error instanceof HttpError && error.status < 500 ? endsConnection(request, error) : error;
    }
  }

  function moveTo(lease: Lease, grant: Grant, address: string | undefined): void {
    if (!lease.moveTo(holderOf(grant, address ?? ""))) {
      throw busyError("too many bytes in flight; send the request again");
    }
  }

  async function accept(envelope: Envelope, { request, caller, lease, traceparent }: Call) {
    const { grant, trusted } = authorise(request, envelope.key);
    if (grant) moveTo(lease, grant, caller.address);
    const apiKey = grant?.key ?? "";
    const { length } = envelope.batch;
    if (length > maxEvents) {
      throw new HttpError(413, `batch: has ${length} events; one request may have MAX_EVENTS_PER_BATCH (${maxEvents})`);
    }
    const limited = { key: apiKey, address: caller.address, dialect: DIALECT };
    const waitSeconds = rateLimit.take(limited, length);
    if (waitSeconds > 0) throw rateLimitedError(waitSeconds);
    const receivedUs = options.nowMs() * 1000;
    const { inputs, indexes, dropped } = readEvents(envelope, receivedUs, originOf(request) !== "");
    if (!lease.grow(inputs.length * EVENT_OVERHEAD_BYTES)) {
      throw busyError("too many bytes in flight; send the request again");
    }
    if (inputs.length === 0) return { status: "ok", ingested: 0, dropped };
    const { ip, userAgent } = caller;
    const facts: RequestFacts = { receivedUs, apiKey, trusted, ip, userAgent, checkStored: envelope.checkStored };
    const verdict = await publish({ events: inputs, names: FIELD_NAMES, facts, dialect: DIALECT, traceparent });
    if (verdict.rejected.length > 0) logDropped(verdict.rejected, indexes);
    return { status: "ok", ingested: verdict.accepted, dropped: dropped + verdict.rejected.length };
  }

  /** Browsers of a listed Origin need no key; a key that is given must be ours. No key set is no key accepted. */
  function authorise(request: HttpRequest, bodyKey: string): { grant: Grant | undefined; trusted: boolean } {
    const origin = originOf(request);
    if (origin !== "" && !origins.allows(origin)) {
      throw new HttpError(
        403,
        `origin: ${origin.slice(0, 100)} is not allowed; add it to ALLOWED_ORIGINS as it stands`,
      );
    }
    const given = bodyKey || keyOf(request);
    if (given === "" && origin !== "") return { grant: undefined, trusted: false };
    const grant = given === "" ? undefined : keys.find(given);
    if (grant) return { grant, trusted: grant.isSecret && origin === "" };
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

function endsConnection({ httpVersionMajor }: HttpRequest, error: HttpError): HttpError {
  if (httpVersionMajor !== 1) return error;
  const headers = { ...error.headers, connection: "close" };
  return new HttpError(error.status, error.message, { headers, cause: error });
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
