// The gateway's RPCs: what the HTTP edge has decided about a call is answered before its body is read.
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { BodyPatience } from "#lib/http/body-chunks.ts";
import { createRpcHandler as createHandler, type RpcHandler as Handler } from "#lib/http/rpc-handler.ts";
import { callOf, RPC_CALL, type RpcCall, tooBusy } from "./rpc-call.ts";

export interface RpcHandlerOptions {
  routes(router: ConnectRouter): void;
  maxMessageBytes: number;
  patience?: BodyPatience;
  shutdownSignal: AbortSignal;
  logger: Logger;
}

export type RpcHandler = Handler<RpcCall>;

export function createRpcHandler(options: RpcHandlerOptions): RpcHandler {
  return createHandler({
    ...options,
    callKey: RPC_CALL,
    gate,
    tooBusy,
    // The caller keeps its own; an append cannot be taken back for it.
    keepsDeadlines: false,
  });
}

function gate(context: HandlerContext): void {
  const { refusal } = callOf(context);
  if (refusal === "busy") throw tooBusy();
  if (refusal) {
    const message = "the api key is missing or unknown: send authorization: Bearer KEY";
    throw new ConnectError(message, Code.Unauthenticated);
  }
}
