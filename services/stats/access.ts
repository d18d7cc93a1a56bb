// Who may ask for stats, and what browsers are told.
import { createTokenCheck, credentialsOf } from "#lib/http/credential.ts";
import { isOwnPage } from "#lib/http/loopback.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { queryOf } from "./query-string.ts";

export interface Access {
  /** Value of Access-Control-Allow-Origin; "" sends none. */
  readonly corsAllow: string;
  /** Sets the headers that let web pages of CORS_ALLOW read the answer. */
  allowOrigin(response: HttpResponse): void;
  /** Whether the request carries the token, or none is asked for. */
  isAllowed(request: HttpRequest): boolean;
  /**
   * Whether a web page sends the request that nobody has named and that is not this port's own. Without a token every page could make alerts on this
   * machine, have them call addresses of its choice, and read the secret ones that others call.
   */
  isForeign(request: HttpRequest): boolean;
  /** The same for a request that changes something. */
  isForeignChange(request: HttpRequest): boolean;
}

/** The query field that carries the token, as the old API spells it: an EventSource cannot set headers. */
export const TOKEN_FIELD = "X-AUTH-TOKEN";
const READS = new Set(["GET", "HEAD", "OPTIONS"]);

export function createAccess({ token, corsAllow }: { token: string | undefined; corsAllow: string }): Access {
  const isToken = token === undefined ? undefined : createTokenCheck(token);
  const isForeign = ({ headers }: HttpRequest) =>
    isToken === undefined &&
    headers.origin !== undefined &&
    headers.origin !== corsAllow &&
    !isOwnPage({ origin: headers.origin, host: headers.host });
  return {
    corsAllow,
    allowOrigin(response) {
      response.setHeader("access-control-allow-origin", corsAllow);
      response.setHeader("access-control-allow-methods", "GET, POST, PUT, DELETE");
      response.setHeader("access-control-allow-headers", "X-AUTH-TOKEN, X-CSRF-Token");
    },
    isAllowed(request) {
      if (!isToken) return true;
      const given = credentialsOf(request);
      return given.length > 0 ? given.some(isToken) : isToken(queryOf(request).get(TOKEN_FIELD) ?? "");
    },
    isForeign,
    isForeignChange: (request) => !READS.has(request.method ?? "") && isForeign(request),
  };
}
