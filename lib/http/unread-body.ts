// An answer given before the body was read (too large, not authorised, busy) leaves bytes on their way. Over HTTP/1.1 the
// next request on that connection would hang behind them; over HTTP/2 they eat the session's flow-control window until
// every call on it fails. So what is left is read and thrown away, within a bound.
import type { IncomingMessage } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { HttpRequest, HttpResponse } from "./message.ts";

const DISCARD_BYTES_MAX = 64 * 1024 * 1024;
/** Over HTTP/1.1, where what is not read costs the caller the answer: enough for a body somewhat too large. */
const DISCARD_H1_BYTES_MAX = 4 * 1024 * 1024;
/** Time for a client to read the answer before its connection (HTTP/2: stream) is closed under what it still sends. */
const LINGER_MS = 500;

/** Call before anything is written: it acts when the head of the answer is. */
export function guardUnreadBody(request: HttpRequest, response: HttpResponse): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => never;
  response.writeHead = (...args: unknown[]) => {
    if ("stream" in request) discardH2(request.stream);
    else if ("shouldKeepAlive" in response && !request.complete && hasBody(request))
      closeAfterAnswer(request, response);
    return writeHead(...args);
  };
}

/** A request without these has no body (RFC 9112, section 6.3), and is complete although Node has not said so yet. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

function closeAfterAnswer(request: IncomingMessage, response: HttpResponse & { shouldKeepAlive: boolean }): void {
  response.shouldKeepAlive = false;
  // Taken now: a request that has been destroyed meanwhile has let go of it.
  const { socket } = request;
  const destroySoon = socket.destroySoon.bind(socket);
  // Node calls this when the answer is written. With bytes that nobody has read that is a reset, by which a caller who is
  // still sending loses the answer: it gets an end first, and time.
  socket.destroySoon = () => {
    if (socket.destroyed) return;
    socket.end();
    const bytesMax = socket.bytesRead + DISCARD_H1_BYTES_MAX;
    request.removeAllListeners("data");
    request.on("data", () => socket.bytesRead > bytesMax && request.pause());
    const timer = setTimeout(destroySoon, LINGER_MS);
    request.once("end", destroySoon);
    socket.once("close", () => clearTimeout(timer));
  };
}

function discardH2(stream: ServerHttp2Stream): void {
  // A streaming RPC answers while it reads: only an answer that has ended leaves a body behind. The stream says when; the
  // response says so only once the body is read as well.
  stream.once("finish", () => {
    if (stream.readableEnded || stream.destroyed) return;
    let left = DISCARD_BYTES_MAX;
    stream.removeAllListeners("data");
    stream.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) stream.close();
    });
    stream.resume();
    // Some clients neither send the rest nor reset the stream once they have their answer (connect-node is one).
    const timer = setTimeout(() => stream.close(), LINGER_MS);
    stream.once("close", () => clearTimeout(timer));
  });
}

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
