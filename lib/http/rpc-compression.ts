// Decompression of RPC messages: counted against the call's room piece by piece, and looked at before it is decoded further.
import { AsyncLocalStorage } from "node:async_hooks";
import { Code, ConnectError, type createConnectRouter } from "@connectrpc/connect";
import { collectUpTo, DecodedTooLargeError, decodeTo, ENCODING_NAMES, encode, UndecodableError } from "./encodings.ts";
import type { MessageCheck } from "./rpc-messages.ts";

/** Counts the bytes that a call holds, where the service bounds them. */
export interface RpcLease {
  /** False when there is no room for more: the call is refused as `tooBusy` says. */
  grow(bytes: number): boolean;
  /** Idempotent. */
  release(): void;
}

export interface Served {
  lease: RpcLease | undefined;
  check: MessageCheck;
}

/** The call being served: decompression is not told whose bytes it has. */
export const served = new AsyncLocalStorage<Served>();

type Compressions = NonNullable<Parameters<typeof createConnectRouter>[0]>["acceptCompression"];

export function createCompressions(tooBusy: () => ConnectError): Exclude<Compressions, undefined> {
  return ENCODING_NAMES.map((name) => ({
    name,
    compress: async (bytes: Uint8Array) => ownBuffer(await encode(name, bytes)),
    async decompress(bytes: Uint8Array, readMaxBytes: number) {
      const { lease, check } = served.getStore() ?? {};
      const collector = collectUpTo(readMaxBytes);
      try {
        await decodeTo(name, [bytes], (piece) => {
          collector.add(piece);
          if (lease?.grow(piece.length) === false) throw tooBusy();
        });
      } catch (error) {
        if (error instanceof DecodedTooLargeError) throw toConnectError(error, Code.ResourceExhausted);
        if (error instanceof UndecodableError) throw toConnectError(error, Code.InvalidArgument);
        throw error;
      }
      const message = collector.bytes();
      return ownBuffer(check ? check(message) : message);
    },
  }));
}

export function toConnectError(cause: Error, code: Code): ConnectError {
  return new ConnectError(`message ${cause.message}`, code, undefined, undefined, cause);
}

/** Node's zlib never answers with shared memory, which is all that the type asks for. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
