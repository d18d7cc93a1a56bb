// What plain HTTP dialects share: reading a bounded body, answering JSON.
import type { ServerResponse } from "node:http";
import { DecodedTooLargeError, decode, ENCODING_NAMES, isEncoding, UndecodableError } from "#lib/runtime/encodings.ts";
import type { HttpRequest, HttpResponse } from "#lib/runtime/http-message.ts";
import { type Lease, RETRY_AFTER_SECONDS } from "./admission.ts";
import { type IpMode, storedAddress, type TrustedProxies } from "./trusted-proxies.ts";

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

export function rateLimitedError(seconds: number): HttpError {
  return new HttpError(429, rateLimitedText(seconds), { headers: { "retry-after": String(seconds) } });
}

export function rateLimitedText(seconds: number): string {
  return `more events than RATE_LIMIT_EVENTS a second; send the request again in ${seconds} s`;
}

export function sendJson(
  response: HttpResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = JSON.stringify(body);
  // The two response types have the same methods, but their overloads do not unite.
  const out = response as ServerResponse;
  out.writeHead(status, {
    ...headers,
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(text)),
  });
  // Text goes out in one piece with the head, bytes would be a piece of their own.
  out.end(text);
}

export function sendText(response: HttpResponse, status: number, text: string): void {
  const out = response as ServerResponse;
  out.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": String(Buffer.byteLength(text)),
  });
  out.end(text);
}

export function sendEmpty(response: HttpResponse, status: number, headers: Record<string, string>): void {
  const out = response as ServerResponse;
  out.writeHead(status, { ...headers, "content-length": "0" });
  out.end();
}

/** Of a user agent only this much is stored: it goes into every record of a request. */
const USER_AGENT_CHARS_MAX = 512;

export interface Caller {
  /** The whole address, for limits; never stored. */
  address: string;
  /** What IP_MODE leaves of it. */
  ip: string;
  userAgent: string;
}

/** Who calls. Ask before the first await: a connection that has gone meanwhile has no address any more. */
export type CallerOf = (request: HttpRequest) => Caller;

export function createCallerOf(proxies: TrustedProxies, ipMode: IpMode): CallerOf {
  return (request) => {
    // Node joins repeated lines of this header; its types allow for an array all the same.
    const forwardedFor = request.headers["x-forwarded-for"] as string | undefined;
    const address = proxies.clientOf(request.socket.remoteAddress ?? "", forwardedFor);
    const userAgent = (request.headers["user-agent"] ?? "").slice(0, USER_AGENT_CHARS_MAX);
    return { address, ip: storedAddress(address, ipMode), userAgent };
  };
}

export interface Target {
  /** Decoded, without the query. */
  path: string;
  /** Between ? and #, as it came. */
  query: string;
}

/** Undefined for a path whose escapes make no text. */
export function targetOf(request: HttpRequest): Target | undefined {
  const [beforeFragment = ""] = (request.url ?? "").split("#", 1);
  const at = beforeFragment.indexOf("?");
  const path = at < 0 ? beforeFragment : beforeFragment.slice(0, at);
  const query = at < 0 ? "" : beforeFragment.slice(at + 1);
  if (!path.includes("%")) return { path, query };
  try {
    return { path: decodeURI(path), query };
  } catch {
    // decodeURI throws for escapes it cannot decode, nothing else.
    return undefined;
  }
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

/** Lower-case content encoding of the body, "identity" when none is named. Throws HttpError 415 for any we do not have. */
export function encodingOf(request: HttpRequest): string {
  const encoding = (request.headers["content-encoding"] ?? "identity").trim().toLowerCase();
  if (encoding === "identity" || isEncoding(encoding)) return encoding;
  const known = ["identity", ...ENCODING_NAMES].join(", ");
  throw new HttpError(415, `content-encoding: ${encoding.slice(0, 40)} is not supported; use one of ${known}`, {
    headers: { "accept-encoding": ENCODING_NAMES.join(", ") },
  });
}

/** The decoded body. Throws HttpError 413, 415, 400 or 503. The lease counts what is read and what it decodes to. */
export async function readBody(request: HttpRequest, maxBytes: number, lease: Lease): Promise<Uint8Array> {
  const encoding = encodingOf(request);
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
