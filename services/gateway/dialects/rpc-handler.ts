// Serves a ConnectRouter's handlers on Node requests: connectNodeAdapter with our limits, encodings and logging.
import { Code, ConnectError, type ConnectRouter, createConnectRouter, createContextValues } from "@connectrpc/connect";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { type Lease, RETRY_AFTER_SECONDS } from "../admission.ts";
import { DecodedTooLargeError, decode, ENCODING_NAMES, encode, UndecodableError } from "../encodings.ts";
import { bodyChunks, type HttpRequest, type HttpResponse } from "../http-request.ts";
import { correctParseErrors } from "./parse-errors.ts";
import { callOf, RPC_CALL, type RpcCall } from "./rpc-call.ts";

export interface RpcHandlerOptions {
  routes(router: ConnectRouter): void;
  maxMessageBytes: number;
  shutdownSignal: AbortSignal;
  logger: Logger;
}

export interface RpcHandler {
  /** True when the path names an RPC of ours. */
  serves(path: string): boolean;
  /** Resolves with the status for the metrics when the answer is written or the caller is gone. Never rejects. */
  handle(request: HttpRequest, response: HttpResponse, path: string, call: RpcCall): Promise<string>;
}

type Compressions = NonNullable<Parameters<typeof createConnectRouter>[0]>["acceptCompression"];

export function createRpcHandler(options: RpcHandlerOptions): RpcHandler {
  const router = createConnectRouter({
    acceptCompression: createCompressions(),
    readMaxBytes: options.maxMessageBytes,
    // An unknown field is a caller's mistake that a 200 would hide.
    jsonOptions: { ignoreUnknownFields: false },
    shutdownSignal: options.shutdownSignal,
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
    async handle(request, response, path, call) {
      const handler = handlers.get(path);
      if (!handler) throw new Error(`no RPC at ${path}`);
      // The library's own promise waits for an event that server responses never emit, so it settles only on failure.
      const closed = new Promise<void>((resolve) => response.once("close", resolve));
      const values = createContextValues();
      values.set(RPC_CALL, call);
      try {
        const universal = universalRequestFromNodeRequest(request, response as never, undefined, values);
        const body = bodyChunks(request);
        const answer = await handler({ ...universal, body: metered(body, call.lease) });
        const delivered = universalResponseToNodeResponse(await correctParseErrors(answer), response as never);
        await Promise.race([delivered, closed]);
        return statusOf(answer);
      } catch (error) {
        const reason = ConnectError.from(error);
        // The caller went away while it was being answered.
        if (reason.code !== Code.Aborted && reason.code !== Code.Canceled) {
          options.logger.warn({ err: error, path }, "rpc answer not delivered");
        }
        if (!response.writableEnded) response.destroy();
        return "undelivered";
      }
    },
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

function tooBusy(): ConnectError {
  const headers = { "retry-after": String(RETRY_AFTER_SECONDS) };
  return new ConnectError("too many bytes in flight; try again", Code.ResourceExhausted, headers);
}

function createCompressions(): Exclude<Compressions, undefined> {
  return ENCODING_NAMES.map((name) => ({
    name,
    compress: async (bytes: Uint8Array) => ownBuffer(await encode(name, bytes)),
    async decompress(bytes: Uint8Array, readMaxBytes: number) {
      try {
        return ownBuffer(await decode(name, bytes, readMaxBytes));
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
