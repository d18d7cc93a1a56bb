// Serves a ConnectRouter's handlers on Node requests: connectNodeAdapter with our limits, encodings and logging.

import { AsyncLocalStorage } from "node:async_hooks";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandlerFn, UniversalServerRequest, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import type { Lease } from "../admission.ts";
import { DecodedTooLargeError, decode, ENCODING_NAMES, encode, UndecodableError } from "../encodings.ts";
import { bodyChunks, type HttpRequest, type HttpResponse, isCallerGone, sendJson } from "../http-request.ts";
import { correctParseErrors } from "./parse-errors.ts";
import { callOf, RPC_CALL, type RpcCall, tooBusy } from "./rpc-call.ts";

export interface RpcHandlerOptions {
  routes(router: ConnectRouter): void;
  maxMessageBytes: number;
  shutdownSignal: AbortSignal;
  logger: Logger;
}

export interface RpcHandler {
  /** True when the path names an RPC of ours. */
  serves(path: string): boolean;
  /** True when requests or answers of the RPC at the path are streams. */
  streams(path: string): boolean;
  /** Resolves with the status for the metrics when the answer is written or the caller is gone. Never rejects. */
  handle(request: HttpRequest, response: HttpResponse, path: string, call: RpcCall): Promise<string>;
}

/** Lease of the call being served: decompression is not told whose bytes it has. */
const leases = new AsyncLocalStorage<Lease | undefined>();

type Compressions = NonNullable<Parameters<typeof createConnectRouter>[0]>["acceptCompression"];

export function createRpcHandler(options: RpcHandlerOptions): RpcHandler {
  const router = createConnectRouter({
    acceptCompression: createCompressions(),
    readMaxBytes: options.maxMessageBytes,
    // An unknown field is a caller's mistake that a 200 would hide.
    jsonOptions: { ignoreUnknownFields: false },
    shutdownSignal: options.shutdownSignal,
    interceptors: [createFailureLog(options.logger)],
    requestGate(context) {
      const { refusal } = callOf(context);
      if (refusal === "busy") throw tooBusy();
      if (refusal)
        throw new ConnectError(
          "the api key is missing or unknown: send authorization: Bearer KEY",
          Code.Unauthenticated,
        );
    },
  });
  options.routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return {
    serves: (path) => handlers.has(path),
    streams: (path) => (handlers.get(path)?.method.methodKind ?? "unary") !== "unary",
    async handle(request, response, path, call) {
      const handler = handlers.get(path);
      if (!handler) throw new Error(`no RPC at ${path}`);
      const universal = readHead(request, response, call);
      if (!universal) {
        const message = "host: the request names no valid host";
        sendJson(response, 400, { code: "invalid_argument", message });
        return "400";
      }
      return leases.run(call.lease, () => answer(handler, universal, response, call));
    },
  };

  async function answer(
    handler: UniversalHandlerFn,
    universal: UniversalServerRequest,
    response: HttpResponse,
    call: RpcCall,
  ): Promise<string> {
    try {
      const corrected = await correctParseErrors(await handler(universal));
      await deliver({ ...corrected, body: releasing(corrected.body, call.lease) }, response);
      return statusOf(corrected);
    } catch (error) {
      if (!isCallerGone(response)) options.logger.error({ err: error, url: universal.url }, "rpc answer not delivered");
      response.destroy();
      return "undelivered";
    }
  }
}

/** Undefined when the request's host or path make no URL: HTTP/1.0 needs no Host, and a Host can be anything. */
function readHead(request: HttpRequest, response: HttpResponse, call: RpcCall): UniversalServerRequest | undefined {
  const values = createContextValues();
  values.set(RPC_CALL, call);
  try {
    const universal = universalRequestFromNodeRequest(request, response as never, undefined, values);
    // The caller keeps its own deadline; an append cannot be taken back for it, and some fit no timer.
    universal.header.delete("connect-timeout-ms");
    universal.header.delete("grpc-timeout");
    return { ...universal, body: metered(bodyChunks(request), call.lease) };
  } catch {
    // It throws for nothing else, and what exactly is wrong with the host would help nobody.
    return undefined;
  }
}

/**
 * Resolves when the answer is written or its connection gone. The library's own promise waits for an event that an
 * HTTP/2 answer to a body not read to its end never emits.
 */
async function deliver(answer: UniversalServerResponse, response: HttpResponse): Promise<void> {
  const closed = Promise.withResolvers<void>();
  response.once("close", closed.resolve);
  await Promise.race([universalResponseToNodeResponse(answer, response as never), closed.promise]);
}

/** Once the answer's last byte is made, the request is no longer held; a caller slow to read it holds up nobody. */
async function* releasing(body: UniversalServerResponse["body"], lease: Lease | undefined): AsyncIterable<Uint8Array> {
  try {
    if (body) yield* body as AsyncIterable<Uint8Array>;
  } finally {
    lease?.release();
  }
}

/** What a handler throws that is no ConnectError is answered as "internal error"; the log has the rest. */
function createFailureLog(logger: Logger): Interceptor {
  const logUnexpected = (error: unknown) => {
    if (!(error instanceof ConnectError)) logger.error({ err: error }, "rpc failed unexpectedly");
  };
  async function* logged<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
    try {
      yield* messages;
    } catch (error) {
      logUnexpected(error);
      throw error;
    }
  }
  return (next) => async (request) => {
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: logged(response.message) } : response;
    } catch (error) {
      logUnexpected(error);
      throw error;
    }
  };
}

function statusOf(answer: { status: number; trailer?: Headers }): string {
  const grpc = answer.trailer?.get("grpc-status");
  return grpc ? `grpc_${grpc}` : String(answer.status);
}

async function* metered(body: AsyncIterable<Uint8Array>, lease: Lease | undefined): AsyncIterable<Uint8Array> {
  for await (const chunk of body) {
    if (lease?.grow(chunk.length) === false) throw tooBusy();
    yield chunk;
  }
}

function createCompressions(): Exclude<Compressions, undefined> {
  return ENCODING_NAMES.map((name) => ({
    name,
    compress: async (bytes: Uint8Array) => ownBuffer(await encode(name, bytes)),
    async decompress(bytes: Uint8Array, readMaxBytes: number) {
      try {
        const decoded = await decode(name, bytes, readMaxBytes);
        if (leases.getStore()?.grow(decoded.length) === false) throw tooBusy();
        return ownBuffer(decoded);
      } catch (error) {
        if (error instanceof DecodedTooLargeError) {
          throw new ConnectError(`message ${error.message}`, Code.ResourceExhausted, undefined, undefined, error);
        }
        if (error instanceof UndecodableError) {
          throw new ConnectError(`message ${error.message}`, Code.InvalidArgument, undefined, undefined, error);
        }
        throw error;
      }
    },
  }));
}

/** Node's zlib never answers with shared memory, which is all that the type asks for. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
