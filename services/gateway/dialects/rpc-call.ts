// What the HTTP edge passes on to an RPC.
import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { type Lease, RETRY_AFTER_SECONDS } from "../admission.ts";

/** What the HTTP edge knows of an RPC. */
export interface RpcCall {
  /** Why the call must not be served; the gate answers it before the body is read. */
  refusal: "unauthenticated" | "busy" | undefined;
  /** Present unless refused. */
  lease: Lease | undefined;
  apiKey: string;
  /** A secret key and no Origin. */
  trusted: boolean;
  /** The caller's whole address; never stored. */
  address: string;
  ip: string;
  userAgent: string;
  /** Protocol as metrics call it: connect, grpc, grpc-web. */
  dialect: string;
  traceparent: string | undefined;
}

export const RPC_CALL = createContextKey<RpcCall | undefined>(undefined);

export function tooBusy(): ConnectError {
  const headers = { "retry-after": String(RETRY_AFTER_SECONDS) };
  return new ConnectError("too many bytes in flight; try again", Code.ResourceExhausted, headers);
}

export function tooFast(message: string, waitSeconds: number): ConnectError {
  return new ConnectError(message, Code.ResourceExhausted, { "retry-after": String(waitSeconds) });
}

export function callOf(context: HandlerContext): RpcCall {
  const call = context.values.get(RPC_CALL);
  if (!call) throw new ConnectError("the call has no edge facts", Code.Internal);
  return call;
}
