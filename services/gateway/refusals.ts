// Every way in which the gateway refuses a request, in one table: read by plain HTTP, the RPCs, the OpenAPI document and
// the test of docs/errors.md. A new refusal does not compile until all of it is given.
import { Code, ConnectError } from "@connectrpc/connect";
import type { RuleFault } from "#lib/events/rule-fault.ts";
import { BODY_LATE } from "#lib/http/body.ts";
import { ENCODING_NAMES } from "#lib/http/encodings.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";

/** What each refusal's sentence is made of. */
interface Details {
  path_undecodable: { url: string };
  not_found: { method: string; url: string };
  method: { allow: string };
  media_type: { given: string; wanted: string };
  charset: { given: string };
  encoding: { given: string };
  compression_query: object;
  compression: { given: string };
  key: object;
  body_key: object;
  secret_key: object;
  origin: { origin: string };
  page: object;
  foreign: object;
  busy: object;
  body_late: object;
  body_too_large: { maxBytes: number };
  body_of_stranger: { maxBytes: number };
  body_encoded: { reason: string };
  body_invalid: { field: string; fault: string };
  invalid: { field: string; fault: string };
  too_many: { field: string; count: number; max: number };
  too_large: { field: string; fault: string };
  too_fast: { seconds: number };
  too_many_lookups: { seconds: number };
  log_away: { ids: string };
  internal: object;
}

/** Faults that several wires find. */
export const NO_EVENTS = "must have at least one event";
export const SEVERAL_KEYS = "has different values in one request; send one request a key";

/** Without the query, which may hold a token or events, and not much of it. */
function shownPath(url: string): string {
  return url.replace(/[?#].*$/s, "").slice(0, 200);
}

export type Refusal = keyof Details;
/** What a refusal is counted as; several may share one. */
export type RefusalMetric = "address" | "form" | "caller" | "content" | "size" | "busy" | "rate" | "log" | "internal";

interface Rule<D> {
  status: number;
  code: Code;
  message(detail: D): string;
  /** Seconds until the same request may succeed; absent when it never will. */
  retryAfter?: number | ((detail: D) => number);
  headers?: Readonly<Record<string, string>> | ((detail: D) => Record<string, string>);
  metric: RefusalMetric;
  /** Of its line in the log. What callers do wrong is for debugging; they are told themselves. */
  level: "debug" | "error";
}

const { gateway: AGAIN } = RETRY_AFTER_SECONDS;
const caller = { metric: "caller", level: "debug" } as const;
const form = { metric: "form", level: "debug" } as const;
const content = { status: 400, code: Code.InvalidArgument, metric: "content", level: "debug" } as const;
const size = { status: 413, code: Code.ResourceExhausted, metric: "size", level: "debug" } as const;
const ENCODINGS = ENCODING_NAMES.join(", ");

export const REFUSALS: { readonly [R in Refusal]: Rule<Details[R]> } = {
  path_undecodable: {
    ...{ status: 400, code: Code.InvalidArgument, metric: "address", level: "debug" },
    message: ({ url }) => `'${shownPath(url)}' is not a valid url component`,
  },
  not_found: {
    ...{ status: 404, code: Code.Unimplemented, metric: "address", level: "debug" },
    message: ({ method, url }) =>
      `Route ${method}:${shownPath(url)} not found; events go to POST /batch/, POST /events or an RPC`,
  },
  method: {
    ...{ status: 405, code: Code.Unimplemented, metric: "address", level: "debug" },
    message: ({ allow }) => `use ${allow}`,
    headers: ({ allow }) => ({ allow }),
  },
  media_type: {
    ...{ status: 415, code: Code.InvalidArgument, ...form },
    message: ({ given, wanted }) => `content-type: must be ${wanted}, not "${given.slice(0, 80)}"`,
  },
  charset: {
    ...{ status: 415, code: Code.InvalidArgument, ...form },
    message: ({ given }) => `content-type: charset must be utf-8, not "${given.slice(0, 40)}"; send UTF-8`,
  },
  encoding: {
    ...{ status: 415, code: Code.Unimplemented, ...form, headers: { "accept-encoding": ENCODINGS } },
    message: ({ given }) =>
      `content-encoding: ${given.slice(0, 40)} is not supported; use one of identity, ${ENCODINGS}`,
  },
  compression_query: {
    ...{ status: 415, code: Code.Unimplemented, ...form },
    message: () => "compression: is not supported in the query; use the header content-encoding: gzip",
  },
  compression: {
    ...{ status: 415, code: Code.Unimplemented, ...form },
    message: ({ given }) =>
      `compression: ${given.slice(0, 40)} is not supported; use one of gzip, gzip-js, base64, or none`,
  },
  key: {
    ...{ status: 401, code: Code.Unauthenticated, ...caller },
    message: () => "the api key is missing or unknown: send authorization: Bearer KEY",
  },
  body_key: {
    ...{ status: 401, code: Code.Unauthenticated, ...caller },
    message: () =>
      'api_key: is missing or unknown; send one of PUBLIC_API_KEYS or SECRET_API_KEYS as "api_key" beside "batch"',
  },
  secret_key: {
    ...{ status: 403, code: Code.PermissionDenied, ...caller },
    message: () => "a replay needs one of SECRET_API_KEYS",
  },
  origin: {
    ...{ status: 403, code: Code.PermissionDenied, ...caller },
    message: ({ origin }) => `origin: ${origin.slice(0, 100)} is not allowed; add it to ALLOWED_ORIGINS as it stands`,
  },
  page: {
    ...{ status: 403, code: Code.PermissionDenied, ...caller },
    message: () => "a replay is not for web pages",
  },
  foreign: {
    ...{ status: 403, code: Code.PermissionDenied, ...caller },
    message: () =>
      "without keys only this machine may call: set PUBLIC_API_KEYS, or list the page's origin in ALLOWED_ORIGINS",
  },
  busy: {
    ...{ status: 503, code: Code.ResourceExhausted, metric: "busy", level: "debug", retryAfter: AGAIN },
    message: () => "too many bytes in flight; try again",
  },
  body_late: {
    ...{ status: 408, code: Code.Unavailable, ...form, retryAfter: AGAIN },
    message: () => BODY_LATE,
  },
  body_too_large: { ...size, message: ({ maxBytes }) => `body: is larger than MAX_BATCH_BYTES (${maxBytes})` },
  body_of_stranger: {
    ...size,
    message: ({ maxBytes }) =>
      `body: is larger than ${maxBytes} bytes, the most that is taken before the api key is known; send the key in a header (authorization: Bearer KEY), or "api_key" as the first field of the body`,
  },
  body_encoded: { ...content, message: ({ reason }) => `body: ${reason}` },
  body_invalid: { ...content, message: ({ field, fault }) => `${field}: ${fault}` },
  invalid: { ...content, message: ({ field, fault }) => `${field}: ${fault}` },
  too_many: {
    ...size,
    message: ({ field, count, max }) => `${field}: has ${count} events; one request may have ${max}`,
  },
  too_large: { ...size, message: ({ field, fault }) => `${field}: ${fault}` },
  too_fast: {
    ...{ status: 429, code: Code.ResourceExhausted, metric: "rate", level: "debug" },
    message: ({ seconds }) => `more events than RATE_LIMIT_EVENTS a second; send the request again in ${seconds} s`,
    retryAfter: ({ seconds }) => seconds,
  },
  too_many_lookups: {
    ...{ status: 429, code: Code.ResourceExhausted, metric: "rate", level: "debug" },
    message: ({ seconds }) =>
      `more events with check_stored than an address may send without a secret key; send the request again in ${seconds} s`,
    retryAfter: ({ seconds }) => seconds,
  },
  log_away: {
    ...{ status: 503, code: Code.Unavailable, metric: "log", level: "debug", retryAfter: AGAIN },
    message: ({ ids }) => `the event log is unavailable; send the request again with the same ${ids}`,
  },
  internal: {
    ...{ status: 500, code: Code.Internal, metric: "internal", level: "error" },
    message: () => "internal error",
  },
};

/** A request that is not served, thrown where the reason is found and answered in one place for each wire. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly refusal: Refusal;
  readonly status: number;
  readonly code: Code;
  readonly headers: Readonly<Record<string, string>>;
  /** Events that are refused by it and were not counted yet. */
  faults: readonly RuleFault[] = [];

  constructor(refusal: Refusal, rule: Rule<never>, detail: never, cause: unknown) {
    super(rule.message(detail), { cause });
    const { retryAfter, headers } = rule;
    const seconds = typeof retryAfter === "function" ? retryAfter(detail) : retryAfter;
    this.refusal = refusal;
    this.status = rule.status;
    this.code = rule.code;
    this.headers = {
      ...(typeof headers === "function" ? headers(detail) : headers),
      ...(seconds !== undefined && { "retry-after": String(seconds) }),
    };
  }

  static because<R extends Refusal>(refusal: R, detail: Details[R], cause?: unknown): Refused {
    return new Refused(refusal, REFUSALS[refusal] as Rule<never>, detail as never, cause);
  }
}

export const refused = Refused.because;

export function toConnectError(error: unknown): ConnectError | undefined {
  if (!(error instanceof Refused)) return undefined;
  return new ConnectError(error.message, error.code, error.headers, undefined, error);
}
