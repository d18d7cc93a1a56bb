// API keys: which header they come in, and whether they are known.
import { isUtf8 } from "node:buffer";
import { hash, timingSafeEqual } from "node:crypto";
import type { HttpRequest } from "#lib/http/message.ts";

/** What a request was let in by. */
export interface Grant {
  /** "" when none was asked for and none given. */
  key: string;
  /** The key is one that may administer as well. */
  isSecret: boolean;
}

export interface Keys {
  /** Undefined: refuse. When no key is set at all everything is open (loopback, or ALLOW_ANONYMOUS). */
  authorise(given: string): Grant | undefined;
  /** The grant of a key that is one of ours, also when everything else is open. */
  find(given: string): Grant | undefined;
}

/**
 * Compares by digest in constant time, so that neither a key's length nor its beginning shows in the time taken. A key in
 * both lists is public: whoever put it among the public ones has given it away.
 */
export function createKeys(publicKeys: readonly string[], secretKeys: readonly string[]): Keys {
  const known = [...new Set([...publicKeys, ...secretKeys])].map((key) => ({
    grant: { key, isSecret: !publicKeys.includes(key) },
    digest: hash("sha256", key, "buffer"),
  }));

  function find(given: string): Grant | undefined {
    const digest = hash("sha256", given, "buffer");
    let found: Grant | undefined;
    for (const each of known) if (timingSafeEqual(each.digest, digest)) found = each.grant;
    return found;
  }

  return { find, authorise: known.length === 0 ? () => ({ key: "", isSecret: false }) : find };
}

/** Key in `authorization: Bearer`, Basic (as user) or `x-api-key`; "" when there is none. */
export function keyOf(request: HttpRequest): string {
  const direct = request.headers["x-api-key"];
  if (typeof direct === "string" && direct !== "") return headerText(direct);
  // All that follows the scheme: a key may have spaces in it.
  const [, scheme = "", value = ""] = /^(\S+) +(.*)$/s.exec(request.headers.authorization ?? "") ?? [];
  if (scheme.toLowerCase() === "bearer") return headerText(value);
  if (scheme.toLowerCase() === "basic") return Buffer.from(value, "base64").toString().split(":", 1)[0] ?? "";
  return "";
}

/**
 * A header's bytes, which Node reads as Latin-1, are UTF-8 from most callers (curl, Go, Python) and Latin-1 from fetch:
 * UTF-8 when they can be.
 */
function headerText(value: string): string {
  const bytes = Buffer.from(value, "latin1");
  return isUtf8(bytes) ? bytes.toString() : value;
}
