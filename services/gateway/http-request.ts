// What plain HTTP dialects share: reading a bounded body, answering JSON.
import type { ServerResponse } from "node:http";
import { type BodyPatience, BodyStalledError, bodyChunks } from "#lib/http/body-chunks.ts";
import { decodeTo, ENCODING_NAMES, isEncoding, UndecodableError } from "#lib/http/encodings.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
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

export interface BodyBounds {
  maxBytes: number;
  lease: Lease;
  patience: BodyPatience;
  /** For a caller who is not known yet. */
  stranger?: {
    maxBytes: number;
    /** Shown the first bytes of a body as soon as they have come: true when they tell who sends it. */
    isKnownBy(beginning: Buffer): boolean;
  };
}

/** What of a body has to come before it is asked who sends it. */
const BEGINNING_BYTES = 1024;

/** The decoded body. Throws HttpError 408, 413, 415, 400 or 503. The lease counts what is read and what it decodes to. */
export async function readBody(request: HttpRequest, bounds: BodyBounds): Promise<Uint8Array> {
  const encoding = encodingOf(request);
  const declared = declaredLength(request);
  if (declared > bounds.maxBytes) throw tooLarge(bounds.maxBytes);
  const body = createBody(bounds, encoding === "identity" ? declared : 0);
  try {
    if (encoding === "identity") for await (const chunk of bodyChunks(request, bounds.patience)) body.add(chunk);
    else await decodeTo(encoding, counted(request, bounds), (piece) => body.add(piece));
    return body.bytes();
  } catch (error) {
    if (error instanceof UndecodableError) throw new HttpError(400, `body: ${error.message}`, { cause: error });
    if (error instanceof BodyStalledError) throw new HttpError(408, error.message, { cause: error });
    throw error;
  }
}

function createBody({ maxBytes, lease, stranger }: BodyBounds, declared: number) {
  const pieces: Buffer[] = [];
  let length = 0;
  let isStranger = stranger !== undefined;
  let isAsked = false;
  return {
    add(piece: Buffer): void {
      pieces.push(piece);
      length += piece.length;
      if (stranger && !isAsked && length >= BEGINNING_BYTES) {
        isAsked = true;
        isStranger = !stranger.isKnownBy(Buffer.concat(pieces).subarray(0, BEGINNING_BYTES));
      }
      if (stranger && isStranger && isAsked && Math.max(length, declared) > stranger.maxBytes) {
        throw new HttpError(413, tooLargeForStranger(stranger.maxBytes));
      }
      if (length > maxBytes) throw tooLarge(maxBytes);
      if (!lease.grow(piece.length)) throw busyError("too many bytes in flight; try again");
    },
    bytes: () => (pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, length)),
  };
}

/** The body as it comes, before it is decoded. */
async function* counted(request: HttpRequest, { maxBytes, lease, patience }: BodyBounds): AsyncGenerator<Buffer> {
  let length = 0;
  for await (const chunk of bodyChunks(request, patience)) {
    length += chunk.length;
    if (length > maxBytes) throw tooLarge(maxBytes);
    if (!lease.grow(chunk.length)) throw busyError("too many bytes in flight; try again");
    yield chunk;
  }
}

export function tooLarge(maxBytes: number): HttpError {
  return new HttpError(413, `body: is larger than MAX_BATCH_BYTES (${maxBytes})`);
}

function tooLargeForStranger(maxBytes: number): string {
  return `body: is larger than ${maxBytes} bytes, the most that is taken before the api key is known; send the key in a header (authorization: Bearer KEY), or "api_key" as the first field of the body`;
}
