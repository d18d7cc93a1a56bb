// What plain HTTP dialects share: reading a bounded body, answering JSON.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { type Lease, RETRY_AFTER_SECONDS } from "./admission.ts";
import { DecodedTooLargeError, decode, ENCODING_NAMES, isEncoding, UndecodableError } from "./encodings.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** An answer other than success, thrown by the code that finds the reason. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly headers: Record<string, string>;

  constructor(status: number, message: string, options: { headers?: Record<string, string>; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.status = status;
    this.headers = options.headers ?? {};
  }
}

export function busyError(message: string, cause?: unknown): HttpError {
  return new HttpError(503, message, { headers: { "retry-after": String(RETRY_AFTER_SECONDS) }, cause });
}

export function sendJson(
  response: HttpResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const bytes = Buffer.from(JSON.stringify(body));
  // The two response types have the same methods, but their overloads do not unite.
  const out = response as ServerResponse;
  out.writeHead(status, {
    ...headers,
    "content-type": "application/json; charset=utf-8",
    "content-length": String(bytes.length),
  });
  out.end(bytes);
}

/** Of a user agent only this much is stored: it goes into every record of a request. */
const USER_AGENT_CHARS_MAX = 512;

/** Who calls. Ask before the first await: a connection that has gone meanwhile has no address any more. */
export function callerOf(request: HttpRequest): { ip: string; userAgent: string } {
  return {
    ip: request.socket.remoteAddress ?? "",
    userAgent: (request.headers["user-agent"] ?? "").slice(0, USER_AGENT_CHARS_MAX),
  };
}

/** True when the caller has left: what fails after that is no news, and there is nobody to answer. */
export function isCallerGone(response: HttpResponse): boolean {
  if ("stream" in response) return response.stream.closed || response.stream.destroyed;
  return response.destroyed || (response.req.destroyed && !response.req.complete);
}

/** The declared body length, or 0 when the request has none. */
export function declaredLength(request: HttpRequest): number {
  const length = Number(request.headers["content-length"]);
  return Number.isSafeInteger(length) && length > 0 ? length : 0;
}

/** Media type in lower case without parameters; "" when absent. */
export function mediaType(request: HttpRequest): string {
  return (request.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** The decoded body. Throws HttpError 413, 415, 400 or 503. The lease counts what is read and what it decodes to. */
export async function readBody(request: HttpRequest, maxBytes: number, lease: Lease): Promise<Uint8Array> {
  const encoding = (request.headers["content-encoding"] ?? "identity").trim().toLowerCase();
  if (encoding !== "identity" && !isEncoding(encoding)) {
    const known = ["identity", ...ENCODING_NAMES].join(", ");
    throw new HttpError(415, `content-encoding: ${encoding.slice(0, 40)} is not supported; use one of ${known}`, {
      headers: { "accept-encoding": ENCODING_NAMES.join(", ") },
    });
  }
  if (declaredLength(request) > maxBytes) throw tooLarge(maxBytes);
  const bytes = await collect(request, maxBytes, lease);
  if (encoding === "identity") return bytes;
  try {
    const decoded = await decode(encoding, bytes, maxBytes);
    if (!lease.grow(decoded.length)) throw busyError("too many bytes in flight; try again");
    return decoded;
  } catch (error) {
    if (error instanceof DecodedTooLargeError) throw tooLarge(maxBytes);
    if (error instanceof UndecodableError) throw new HttpError(400, `body: ${error.message}`, { cause: error });
    throw error;
  }
}

async function collect(request: HttpRequest, maxBytes: number, lease: Lease): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of bodyChunks(request)) {
    length += chunk.length;
    if (length > maxBytes) throw tooLarge(maxBytes);
    if (!lease.grow(chunk.length)) throw busyError("too many bytes in flight; try again");
    chunks.push(chunk);
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, length);
}

/** The body as it arrives. Giving up on it leaves the connection open, so that the answer that says why still gets out. */
export function bodyChunks(request: HttpRequest): AsyncIterable<Buffer> {
  return request.iterator({ destroyOnReturn: false });
}

function tooLarge(maxBytes: number): HttpError {
  return new HttpError(413, `body: is larger than MAX_BATCH_BYTES (${maxBytes})`);
}
