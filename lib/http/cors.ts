// Which web pages may call, and what browsers are told. The table of the plain paths is that of the product-analytics contract (section 1.6); RPC paths
// add the headers that Connect and gRPC-Web document.
import { cors as rpcHeaders } from "@connectrpc/connect";
import { sendEmpty, sendText } from "./answers.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";

/** How long a browser keeps the answer to a preflight, seconds: the longest that Chromium takes. */
const MAX_AGE_SECONDS = 7200;

export interface CorsRules {
  methods: string;
  headers: string;
  /** Headers that pages may read beyond those that browsers always show. */
  exposed: string;
}

export const BATCH_CORS: CorsRules = {
  methods: "POST, OPTIONS, GET",
  headers: "content-type, content-encoding, x-requested-with",
  exposed: "retry-after",
};

export const POSTHOG_CORS: CorsRules = {
  methods: "POST, OPTIONS, GET",
  headers:
    "content-type, content-encoding, x-requested-with, authorization, posthog-sdk-info, posthog-attempt, posthog-request-id, posthog-request-timestamp",
  exposed: "retry-after",
};

/** What Segment's, RudderStack's and Jitsu's browser clients send. */
export const SEGMENT_CORS: CorsRules = {
  methods: "POST, GET, OPTIONS",
  headers: [
    ...["authorization", "content-type", "content-encoding", "x-retry-count", "anonymousid"],
    ...["x-write-key", "x-enable-debug", "x-ip-policy"],
  ].join(", "),
  exposed: "retry-after",
};

export const RPC_CORS: CorsRules = {
  methods: "POST",
  headers: [...rpcHeaders.allowedHeaders, "Authorization", "X-Api-Key"].join(", ").toLowerCase(),
  exposed: [...rpcHeaders.exposedHeaders, "Retry-After"].join(", ").toLowerCase(),
};

export interface Cors {
  /**
   * Sets the headers that belong on every answer, errors included, for a listed Origin. Without them a page cannot see
   * even the status that asks it to send again.
   */
  attach(request: HttpRequest, response: HttpResponse, rules: CorsRules): void;
  /** Answers an OPTIONS request and returns its status; undefined, and no answer: an unlisted Origin is told 404. */
  preflight(request: HttpRequest, response: HttpResponse, rules: CorsRules): number | undefined;
}

export function createCors(origins: Origins): Cors {
  return {
    attach(request, response, rules) {
      response.setHeader("vary", "Origin");
      const origin = originOf(request);
      if (!origins.allows(origin)) return;
      response.setHeader("access-control-allow-origin", origin);
      // A beacon is sent with credentials, and a browser refuses it without this.
      response.setHeader("access-control-allow-credentials", "true");
      response.setHeader("access-control-expose-headers", rules.exposed);
    },
    preflight(request, response, rules) {
      const origin = originOf(request);
      if (origin !== "" && !origins.allows(origin)) return undefined;
      if (origin === "" || !request.headers["access-control-request-method"]) {
        sendText(response, 400, "Invalid Preflight Request");
        return 400;
      }
      sendEmpty(response, 204, {
        "access-control-allow-methods": rules.methods,
        "access-control-allow-headers": allowedHeaders(rules.headers, request),
        "access-control-max-age": String(MAX_AGE_SECONDS),
      });
      return 204;
    },
  };
}

const TOKEN = /^[\w!#$%&'*+.^`|~-]{1,100}$/;
const ASKED_MAX = 64;

/**
 * The page is trusted already, and what its tracing, monitoring and SDKs add to a request is theirs to choose: a header that
 * is not granted costs the event, and nothing here obeys a header that another caller could not send.
 */
export function allowedHeaders(listed: string, { headers }: HttpRequest): string {
  const known = new Set(listed.toLowerCase().split(", "));
  const asked = String(headers["access-control-request-headers"] ?? "").toLowerCase();
  const more = new Set(asked.split(",", ASKED_MAX).map((name) => name.trim()));
  return [listed, ...[...more].filter((name) => TOKEN.test(name) && !known.has(name))].join(", ");
}

export interface Origins {
  /** True for an origin of the list, compared as text: no wildcard, no other case, no trailing slash. */
  allows(origin: string): boolean;
  /** Entries of the list that no browser's Origin equals. */
  readonly unmatchable: readonly string[];
}

/**
 * The web origins whose pages may call. An entry that is no origin matches nothing; `null` least of all, the Origin of
 * every sandboxed frame and local file.
 */
export function createOrigins(list: readonly string[]): Origins {
  const unmatchable = list.filter((entry) => !isOrigin(entry));
  const allowed = new Set(list.filter(isOrigin));
  return { allows: (origin) => allowed.has(origin), unmatchable };
}

/** As browsers write it: scheme and host in lower case, no default port, no slash at the end. */
function isOrigin(entry: string): boolean {
  if (/^https?:/.test(entry)) return URL.parse(entry)?.origin === entry && !entry.includes("*");
  // Apps in a shell have schemes of their own: capacitor://localhost.
  return /^[a-z][a-z0-9+.-]*:\/\/[^/\s*]+$/.test(entry);
}

/** The Origin header; "" when there is none, or an empty one. */
export function originOf(request: HttpRequest): string {
  return String(request.headers.origin ?? "");
}
