// Serves a ConnectRouter's handlers on Node requests: connectNodeAdapter with our limits, encodings and logging.

import { isUtf8 } from "node:buffer";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "#lib/process/log.ts";
import { sendJson } from "./answers.ts";
import { BODY_PATIENCE, type BodyPatience, BodyStalledError, bodyChunks, declaredLength, mediaType } from "./body.ts";
import { normalEncoding } from "./encodings.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "./message.ts";
import { createCompressions, type RpcLease, type Served, served, toConnectError } from "./rpc-compression.ts";
import { type MessageCheck, wholeMessages } from "./rpc-messages.ts";
import { correctParseErrors } from "./rpc-parse-errors.ts";

export interface RpcHandlerOptions<Call> {
  /** `callOf` gives a handler what was handed to `handle` for its call. */
  routes(router: ConnectRouter, callOf: (context: HandlerContext) => Call): void;
  maxMessageBytes: number;
  /**
   * Looks at a message of the RPC at the path before objects are made of it, and returns what is read in its place; throws as
   * a handler does.
   */
  inspect?(path: string, message: Buffer, isJson: boolean): Buffer;
  /** How long a body may take; BODY_PATIENCE when absent. */
  patience?: BodyPatience;
  /** Where the service bounds what calls hold. */
  leaseOf?(call: Call): RpcLease | undefined;
  tooBusy?(): ConnectError;
  /** How a failure that is not the service's own fault is told; undefined: it is one, and is logged. */
  toConnectError?(error: unknown): ConnectError | undefined;
  /** Whether a call ends at the deadline that its caller sets. */
  keepsDeadlines: boolean;
  shutdownSignal: AbortSignal;
  logger: Logger;
}

export interface RpcHandler<Call> {
  /** True when the path names an RPC of ours. */
  serves(path: string): boolean;
  /** True when requests or answers of the RPC at the path are streams. */
  streams(path: string): boolean;
  /** False when the RPC at the path is declared free of side effects. */
  changes(path: string): boolean;
  /**
   * Serves the call, or refuses it before its body is read. Resolves with the status for the metrics when the answer is
   * written or the caller is gone. Never rejects.
   */
  handle(request: HttpRequest, response: HttpResponse, path: string, call: Call | ConnectError): Promise<string>;
}

const TIMER_MS_MAX = 2 ** 31 - 1;
const GRPC_UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

export function createRpcHandler<Call>(options: RpcHandlerOptions<Call>): RpcHandler<Call> {
  const { logger, leaseOf } = options;
  const tooBusy = options.tooBusy ?? (() => new ConnectError("busy; try again", Code.ResourceExhausted));
  const callKey = createContextKey<Call | ConnectError | undefined>(undefined);
  const router = createConnectRouter({
    acceptCompression: createCompressions(tooBusy),
    readMaxBytes: options.maxMessageBytes,
    // An unknown field is a caller's mistake that a 200 would hide.
    jsonOptions: { ignoreUnknownFields: false },
    // Nobody reads them, and kept they take a hundred bytes for one that was sent.
    binaryOptions: { readUnknownFields: false },
    shutdownSignal: options.shutdownSignal,
    interceptors: [createFailureLog(logger, options.toConnectError)],
    requestGate: (context) => void callOf(context),
  });
  options.routes(router, callOf);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  function callOf(context: HandlerContext): Call {
    const call = context.values.get(callKey);
    if (call instanceof ConnectError) throw call;
    return call as Call;
  }

  return {
    serves: (path) => handlers.has(path),
    streams: (path) => isStream(handlers.get(path)),
    changes: (path) => handlers.get(path)?.method.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
    async handle(request, response, path, call) {
      const handler = handlers.get(path);
      if (!handler) throw new Error(`no RPC at ${path}`);
      const lease = call instanceof ConnectError ? undefined : leaseOf?.(call);
      const check = checkOf(request, path);
      const universal = readHead(request, response, call, { lease, check, streams: isStream(handler) });
      if (!universal) return refuseHost(response);
      return served.run({ lease, check }, () => answer(handler, universal, response, lease));
    },
  };

  function checkOf(request: HttpRequest, path: string): MessageCheck {
    const isJson = mediaType(request).endsWith("json");
    return (message) => {
      let read = message;
      try {
        read = options.inspect?.(path, message, isJson) ?? message;
      } catch (error) {
        throw options.toConnectError?.(error) ?? error;
      }
      // The library replaces what it cannot read, and two ids become one.
      if (isJson && !isUtf8(read)) throw new ConnectError("message is not UTF-8; send UTF-8", Code.InvalidArgument);
      return read;
    };
  }

  /** Undefined when the request's host or path make no URL: HTTP/1.0 needs no Host, and a Host can be anything. */
  function readHead(
    request: HttpRequest,
    response: HttpResponse,
    call: Call | ConnectError,
    { lease, check, streams }: Served & { streams: boolean },
  ): UniversalServerRequest | undefined {
    const values = createContextValues();
    values.set(callKey, call);
    try {
      const universal = universalRequestFromNodeRequest(request, response as never, undefined, values);
      if (!(options.keepsDeadlines && fitsTimer(universal.header))) {
        universal.header.delete("connect-timeout-ms");
        universal.header.delete("grpc-timeout");
      }
      const chunks = bodyChunks(request, options.patience ?? BODY_PATIENCE, streams);
      spellEncodings(universal.header);
      // The library counts what it is given, which need not be what was sent.
      if (declaredLength(request) <= options.maxMessageBytes) universal.header.delete("content-length");
      const encoded = (universal.header.get("content-encoding") ?? "identity") !== "identity";
      const framed = streams || mediaType(request).startsWith("application/grpc");
      const whole = { encoded, framed, maxBytes: options.maxMessageBytes, check };
      return { ...universal, body: wholeMessages(metered(chunks, lease, tooBusy), whole) };
    } catch {
      // It throws for nothing else, and what exactly is wrong with the host would help nobody.
      return undefined;
    }
  }

  async function answer(
    handler: UniversalHandler,
    universal: UniversalServerRequest,
    response: HttpResponse,
    lease: RpcLease | undefined,
  ): Promise<string> {
    try {
      const corrected = withWords(await correctParseErrors(await handler(universal)), handler, universal);
      await deliver({ ...corrected, body: releasing(corrected.body, lease) }, response);
      return statusOf(corrected);
    } catch (error) {
      // The path alone: a query can hold a token.
      const { pathname: path } = new URL(universal.url);
      if (!isCallerGone(response)) logger.error({ err: error, path }, "rpc answer not delivered");
      response.destroy();
      return "undelivered";
    }
  }
}

/** The library knows each encoding by one name. What has no name of ours is left for it to refuse. */
function spellEncodings(header: Headers): void {
  for (const name of ["content-encoding", "connect-content-encoding", "grpc-encoding"]) {
    const encoding = normalEncoding(header.get(name) ?? "");
    if (encoding !== undefined) header.set(name, encoding);
  }
}

/** The library refuses a method or content type by the status alone; a 405 names the methods (RFC 9110, section 15.5.6). */
function withWords(
  answer: UniversalServerResponse,
  { allowedMethods, method }: UniversalHandler,
  request: UniversalServerRequest,
): UniversalServerResponse {
  if (answer.status !== 405 && answer.status !== 415) return answer;
  const header = new Headers(answer.header);
  const allow = allowedMethods.join(", ");
  if (answer.status === 405) header.set("allow", allow);
  const wanted = method.methodKind === "unary" ? "application/json, application/proto" : "application/connect+proto";
  const given = (request.header.get("content-type") ?? "").slice(0, 80);
  const [code, message] =
    answer.status === 405
      ? ["unimplemented", `method: must be ${allow}, not ${request.method}`]
      : [
          "invalid_argument",
          `content-type: must be ${wanted}, application/grpc or application/grpc-web, not "${given}"`,
        ];
  header.set("content-type", "application/json");
  return { ...answer, header, body: textBody(JSON.stringify({ code, message })) };
}

async function* textBody(text: string): AsyncIterable<Uint8Array> {
  yield Buffer.from(text);
}

/** False for a deadline in the far future, which a timer would let pass at once. What is malformed is left to be refused. */
function fitsTimer(header: Headers): boolean {
  const [, count, unit = ""] = /^(\d+)([HMSmun])$/.exec(header.get("grpc-timeout") ?? "") ?? [];
  const grpcMs = Number(count ?? 0) * (GRPC_UNIT_MS[unit] ?? 0);
  return !(Math.max(grpcMs, Number(header.get("connect-timeout-ms") ?? 0)) > TIMER_MS_MAX);
}

function refuseHost(response: HttpResponse): string {
  sendJson(response, 400, { code: "invalid_argument", message: "host: the request names no valid host" });
  return "400";
}

/**
 * Resolves when the answer is written or its connection gone. The library's own promise waits for an event that an
 * HTTP/2 answer to a body not read to its end never emits.
 */
async function deliver(answer: UniversalServerResponse, response: HttpResponse): Promise<void> {
  const closed = Promise.withResolvers<void>();
  response.once("close", () => closed.resolve());
  await Promise.race([universalResponseToNodeResponse(answer, response as never), closed.promise]);
}

/** Once the answer's last byte is made, the request is no longer held; a caller slow to read it holds up nobody. */
async function* releasing(
  body: UniversalServerResponse["body"],
  lease: RpcLease | undefined,
): AsyncIterable<Uint8Array> {
  try {
    if (body) yield* body as AsyncIterable<Uint8Array>;
  } finally {
    lease?.release();
  }
}

/** What a handler throws that is no ConnectError is answered as "internal error"; the log has the rest. */
function createFailureLog(
  logger: Logger,
  convert: (error: unknown) => ConnectError | undefined = () => undefined,
): Interceptor {
  const told = (error: unknown): unknown => {
    const converted = convert(error) ?? error;
    if (!(converted instanceof ConnectError)) logger.error({ err: error }, "rpc failed unexpectedly");
    return converted;
  };
  async function* logged<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
    try {
      yield* messages;
    } catch (error) {
      throw told(error);
    }
  }
  return (next) => async (request) => {
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: logged(response.message) } : response;
    } catch (error) {
      throw told(error);
    }
  };
}

function statusOf(answer: { status: number; trailer?: Headers }): string {
  const grpc = answer.trailer?.get("grpc-status");
  return grpc ? `grpc_${grpc}` : String(answer.status);
}

function isStream(handler: UniversalHandler | undefined): boolean {
  return (handler?.method.methodKind ?? "unary") !== "unary";
}

async function* metered(
  chunks: AsyncIterable<Buffer>,
  lease: RpcLease | undefined,
  tooBusy: () => ConnectError,
): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of chunks) {
      if (lease?.grow(chunk.length) === false) throw tooBusy();
      yield chunk;
    }
  } catch (error) {
    if (error instanceof BodyStalledError) throw toConnectError(error, Code.Unavailable);
    throw error;
  }
}
