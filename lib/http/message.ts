// What Node's HTTP/1.1 and HTTP/2 servers hand to a handler.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** True when the caller has left: what fails after that is no news, and there is nobody to answer. */
export function isCallerGone(response: HttpResponse): boolean {
  if ("stream" in response) return response.stream.closed || response.stream.destroyed;
  return response.destroyed || (response.req.destroyed && !response.req.complete);
}
