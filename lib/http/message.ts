// What Node's HTTP/1.1 and HTTP/2 servers hand to a handler, as one request and one response.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

export type HttpRequest = IncomingMessage | Http2ServerRequest;

/** The methods of both responses that are used here: the overloads of Node's two classes do not unite. */
type ResponseOverloads = "end" | "off" | "on" | "once" | "setHeader" | "write" | "writeHead";

export type HttpResponse = (Omit<ServerResponse, ResponseOverloads> | Omit<Http2ServerResponse, ResponseOverloads>) & {
  setHeader(name: string, value: number | string | readonly string[]): unknown;
  writeHead(status: number, headers?: OutgoingHttpHeaders): unknown;
  write(chunk: string | Uint8Array): boolean;
  end(chunk?: string | Uint8Array, encoding?: BufferEncoding): unknown;
  on(event: string, listener: (...args: unknown[]) => void): HttpResponse;
  once(event: string, listener: (...args: unknown[]) => void): HttpResponse;
  off(event: string, listener: (...args: unknown[]) => void): HttpResponse;
};

/** True when the caller has left: what fails after that is no news, and there is nobody to answer. */
export function isCallerGone(response: HttpResponse): boolean {
  if ("stream" in response) return response.stream.closed || response.stream.destroyed;
  return response.destroyed || (response.req.destroyed && !response.req.complete);
}
