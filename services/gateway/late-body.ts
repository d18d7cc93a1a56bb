// Cancels HTTP/2 requests whose body never ends.
import { constants } from "node:http2";
import type { HttpRequest } from "#lib/http/message.ts";

/**
 * Node's `requestTimeout` knows HTTP/1.1 only: over HTTP/2 a body that never comes to its end would hold its share of the
 * bytes in flight for as long as its connection lives.
 */
export function cancelWhenLate(request: HttpRequest, timeoutMs: number): void {
  if (!("stream" in request) || request.complete) return;
  const { stream } = request;
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), timeoutMs);
  const done = () => clearTimeout(timer);
  request.once("end", done);
  stream.once("close", done);
}
