// One server span a request, with the HTTP or RPC attributes of OpenTelemetry. What a caller does wrong is no failure of
// ours: only a fault of the gateway marks a span as failed.

import type { HttpRequest } from "#lib/http/message.ts";
import { contextFrom, failSpan, telemetryEnabled, traceparentOf, withSpan } from "#lib/process/telemetry.ts";

/** By number: the text of grpc-status that spans carry. */
const GRPC_CODES = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"],
  ...["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"],
  ...["INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"],
];
const GRPC_FAULTS = new Set(["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]);

export interface RequestSpan {
  /** Path of the route, or of the RPC: /package.Service/Method. */
  path: string;
  /** Protocol of an RPC; undefined for plain HTTP. */
  rpc?: string;
}

/** Runs `serve`, which resolves with the code for the metrics: an HTTP status, grpc_N, or why there was no answer. */
export function inRequestSpan(
  request: HttpRequest,
  { path, rpc }: RequestSpan,
  serve: (traceparent: string | undefined) => Promise<string>,
): Promise<string> {
  if (!telemetryEnabled()) return serve(undefined);
  const parent = contextFrom(request.headers.traceparent);
  const name = rpc === undefined ? `${request.method} ${path}` : path.slice(1);
  const attributes = rpc === undefined ? httpAttributes(request, path) : rpcAttributes(path, rpc);
  return withSpan(name, { kind: "server", parent, attributes }, async (span) => {
    const code = await serve(traceparentOf(span));
    const outcome = outcomeOf(code);
    span.setAttributes(outcome.attributes);
    if (outcome.fault !== undefined) failSpan(span, outcome.fault);
    return code;
  });
}

function httpAttributes(request: HttpRequest, path: string) {
  return {
    "http.request.method": request.method ?? "_OTHER",
    "http.route": path,
    "url.path": path,
    "url.scheme": "encrypted" in request.socket && request.socket.encrypted ? "https" : "http",
    "network.protocol.version": request.httpVersion === "2.0" ? "2" : request.httpVersion,
  };
}

function rpcAttributes(path: string, protocol: string) {
  return { "rpc.system.name": protocol === "connect" ? "connectrpc" : "grpc", "rpc.method": path.slice(1) };
}

function outcomeOf(code: string): { attributes: Record<string, string | number>; fault?: string } {
  const grpc = /^grpc_(\d+)$/.exec(code)?.[1];
  if (grpc !== undefined) {
    const name = GRPC_CODES[Number(grpc)] ?? "UNKNOWN";
    const attributes = { "rpc.response.status_code": name };
    return GRPC_FAULTS.has(name) ? { attributes, fault: name } : { attributes };
  }
  // The caller left before its answer.
  if (!/^\d{3}$/.test(code)) return { attributes: { "error.type": code } };
  const attributes = { "http.response.status_code": Number(code) };
  return Number(code) >= 500 ? { attributes, fault: code } : { attributes };
}
