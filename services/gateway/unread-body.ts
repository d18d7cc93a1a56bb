// An answer given before the body was read (too large, not authorised, busy) leaves bytes on their way. Over HTTP/1.1 the
// next request on that connection would hang behind them; over HTTP/2 they eat the session's flow-control window until
// every call on it fails. So what is left is read and thrown away, within a bound.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from "node:http2";
import type { HttpRequest, HttpResponse } from "./http-request.ts";

const DISCARD_BYTES_MAX = 64 * 1024 * 1024;
/** Time for an HTTP/1.1 client to read the answer before its connection is closed under what it still sends. */
const LINGER_MS = 500;

/** Call before anything is written: it acts when the head of the answer is. */
export function guardUnreadBody(request: HttpRequest, response: HttpResponse): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => never;
  response.writeHead = (...args: unknown[]) => {
    if ("stream" in request) discardH2(request, response as Http2ServerResponse);
    else if (!request.complete) closeAfterAnswer(request, response as ServerResponse);
    return writeHead(...args);
  };
}

function closeAfterAnswer(request: IncomingMessage, response: ServerResponse): void {
  response.shouldKeepAlive = false;
  // Taken now: a request that has been destroyed meanwhile has let go of it.
  const { socket } = request;
  response.once("finish", () => {
    if (socket.destroyed) return;
    request.removeAllListeners("data");
    request.resume();
    const timer = setTimeout(() => socket.destroySoon(), LINGER_MS);
    const close = () => {
      clearTimeout(timer);
      socket.destroySoon();
    };
    request.once("end", close);
    socket.once("close", () => clearTimeout(timer));
  });
}

function discardH2(request: Http2ServerRequest, response: Http2ServerResponse): void {
  const stream = request.stream as ServerHttp2Stream;
  // A streaming RPC answers while it reads: only an answer that has ended leaves a body behind.
  response.once("finish", () => {
    if (stream.readableEnded || stream.destroyed) return;
    let left = DISCARD_BYTES_MAX;
    stream.removeAllListeners("data");
    stream.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) stream.close();
    });
    stream.resume();
  });
}
