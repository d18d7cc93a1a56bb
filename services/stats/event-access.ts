// Who may see events themselves. What they say is about people, so a page that only knows this port's address must not read
// it, while it may read statistics.
import { createTokenCheck, credentialsOf } from "#lib/http/credential.ts";
import { isForeignName } from "#lib/http/loopback.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { TOKEN_FIELD } from "./access.ts";
import { queryOf } from "./query-string.ts";

export interface EventAccessOptions {
  token: string | undefined;
  publicKeys: readonly string[];
  secretKeys: readonly string[];
  /** Address listened on. */
  host: string;
  corsAllow: string;
}

/** Why a request may not see events. */
export interface EventRefusal {
  /** unknown: another credential would do. foreign: the page, or the name it came by, is not this server's. */
  why: "unknown" | "foreign";
  message: string;
}

export interface EventAccess {
  /** Undefined: it may. */
  refusalOf(request: HttpRequest): EventRefusal | undefined;
  /** Why it may not put records on the log again; undefined: it may. */
  replayRefusalOf(request: HttpRequest): EventRefusal | undefined;
}

/** With a token or secret keys, one of them is asked for; without any, the caller must be on this machine or be our own page. */
export function createEventAccess(options: EventAccessOptions): EventAccess {
  const { token, publicKeys, secretKeys, host, corsAllow } = options;
  // A key that is also among the public ones is no secret.
  const secrets = secretKeys.filter((key) => !publicKeys.includes(key));
  const secretChecks = secrets.map(createTokenCheck);
  const checks = [...(token === undefined ? [] : [createTokenCheck(token)]), ...secretChecks];

  function isKnown(request: HttpRequest): boolean {
    const sent = credentialsOf(request);
    return hasOneOf(checks, sent.length > 0 ? sent : [queryOf(request).get(TOKEN_FIELD) ?? ""]);
  }

  function isForeign({ headers }: HttpRequest): boolean {
    if (isForeignName(headers.host ?? String(headers[":authority"] ?? ""), host)) return true;
    const { origin } = headers;
    return origin !== undefined && origin !== corsAllow && !isOwnPage(origin, headers.host);
  }

  return {
    refusalOf(request) {
      if (checks.length > 0) {
        return isKnown(request)
          ? undefined
          : { why: "unknown", message: "the key is missing or wrong: send STATS_TOKEN or one of SECRET_API_KEYS" };
      }
      if (!isForeign(request)) return undefined;
      const message = "other web pages need STATS_TOKEN to be set and sent, or CORS_ALLOW to name them, to see events";
      return { why: "foreign", message };
    },
    replayRefusalOf(request) {
      if (secretChecks.length === 0) {
        return { why: "foreign", message: "dead letters are replayed by secret key only: set SECRET_API_KEYS" };
      }
      if (hasOneOf(secretChecks, credentialsOf(request))) return undefined;
      return { why: "unknown", message: "the key is missing or no secret one: send one of SECRET_API_KEYS" };
    },
  };
}

/** Looks at all of them, so that the time taken does not say which one it is. */
function hasOneOf(checks: readonly ((given: string) => boolean)[], given: readonly string[]): boolean {
  return given.some((each) => checks.reduce((found, isKey) => isKey(each) || found, false));
}

function isOwnPage(origin: string, host: string | undefined): boolean {
  const own = URL.parse(origin)?.host;
  return own !== undefined && own !== "" && own === host;
}
