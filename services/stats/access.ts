// Who may ask for stats, and what browsers are told.
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { createTokenCheck } from "#lib/http/token.ts";
import { queryOf } from "./query-string.ts";

export interface Access {
  /** Undefined: no token is asked for. */
  readonly isToken: ((given: string) => boolean) | undefined;
  /** Sets the headers that let web pages of CORS_ALLOW read the answer. */
  allowOrigin(response: HttpResponse): void;
  /** Whether the request carries the token, or none is asked for. */
  isAllowed(request: HttpRequest): boolean;
  /** Whether a web page sends a request that changes something, and nobody has said that it may. */
  isForeignChange(request: HttpRequest): boolean;
}

const TOKEN = "X-AUTH-TOKEN";
const READS = new Set(["GET", "HEAD", "OPTIONS"]);

export function createAccess({ token, corsAllow }: { token: string | undefined; corsAllow: string }): Access {
  const isToken = token === undefined ? undefined : createTokenCheck(token);
  return {
    isToken,
    allowOrigin(response) {
      response.setHeader("access-control-allow-origin", corsAllow);
      response.setHeader("access-control-allow-methods", "GET, POST, PUT, DELETE");
      response.setHeader("access-control-allow-headers", "X-AUTH-TOKEN, X-CSRF-Token");
    },
    isAllowed(request) {
      if (!isToken) return true;
      const header = request.headers["x-auth-token"];
      if (typeof header === "string" && header !== "") return isToken(header);
      const { authorization = "" } = request.headers;
      if (/^bearer /i.test(authorization) && isToken(authorization.slice(7))) return true;
      return isToken(queryOf(request).get(TOKEN) ?? "");
    },
    // Without a token every page on the web could make alerts on this machine, and have them call addresses of its choice.
    isForeignChange(request) {
      const { origin } = request.headers;
      if (isToken || origin === undefined || READS.has(request.method ?? "")) return false;
      return origin !== corsAllow;
    },
  };
}
