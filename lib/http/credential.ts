// Who a request says it is: keys and tokens, read in one way on every port.
import { isUtf8 } from "node:buffer";
import { hash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

const OWN_HEADERS = ["x-api-key", "x-auth-token"];

/**
 * Everything that a request brings to be let in by: `x-api-key`, `x-auth-token`, `authorization: Bearer` and the user of
 * `authorization: Basic`, in this order. One that is right is enough, whatever stands beside it.
 */
export function credentialsOf({ headers }: { headers: IncomingHttpHeaders }): string[] {
  const own = OWN_HEADERS.map((name) => headerText(headers[name]));
  return [...own, bearerOf(headers), basicOf(headers)?.user ?? ""].filter((text) => text !== "");
}

function bearerOf({ authorization = "" }: IncomingHttpHeaders): string {
  const [, scheme = "", value = ""] = /^(\S+) +(.*)$/s.exec(authorization) ?? [];
  // All that follows the scheme: a key may have spaces in it.
  return scheme.toLowerCase() === "bearer" ? headerText(value) : "";
}

export function basicOf({ authorization = "" }: IncomingHttpHeaders): { user: string; password: string } | undefined {
  const [, scheme = "", value = ""] = /^(\S+) +(.*)$/s.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== "basic") return undefined;
  const text = Buffer.from(value, "base64").toString();
  const colon = text.indexOf(":");
  return colon < 0 ? { user: text, password: "" } : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

/**
 * A header's bytes, which Node reads as Latin-1, are UTF-8 from most callers (curl, Go, Python) and Latin-1 from fetch:
 * UTF-8 when they can be. "" when there is none.
 */
export function headerText(value: string | string[] | undefined): string {
  if (typeof value !== "string") return "";
  const bytes = Buffer.from(value, "latin1");
  return isUtf8(bytes) ? bytes.toString() : value;
}

/** True for the token. Compares digests in constant time: neither length nor beginning shows in the time taken. */
export function createTokenCheck(token: string): (given: string) => boolean {
  const expected = hash("sha256", token, "buffer");
  return (given) => timingSafeEqual(hash("sha256", given, "buffer"), expected);
}
