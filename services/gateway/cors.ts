// What browsers are told. The table of the plain paths is that of the product-analytics contract (section 1.6); RPC paths
// add the headers that Connect and gRPC-Web document.
import { cors as rpcHeaders } from "@connectrpc/connect";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { sendEmpty, sendText } from "./http-request.ts";
import { type Origins, originOf } from "./origins.ts";

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

export const RPC_CORS: CorsRules = {
  methods: "POST",
  headers: [...rpcHeaders.allowedHeaders, "Authorization", "X-Api-Key"].join(", ").toLowerCase(),
  exposed: [...rpcHeaders.exposedHeaders, "Retry-After"].join(", ").toLowerCase(),
};

export interface Cors {
  /**
   * Sets the headers that belong on every answer, errors included, for a listed Origin. Without them a page cannot see
   * even the status that tells it to come again.
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
        "access-control-allow-headers": rules.headers,
        "access-control-max-age": String(MAX_AGE_SECONDS),
      });
      return 204;
    },
  };
}
