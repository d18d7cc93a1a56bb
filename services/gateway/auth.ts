import { hash, timingSafeEqual } from "node:crypto";
import type { HttpRequest } from "./http-request.ts";

export interface Keys {
  /** True when no key is set: everything is open (loopback, or ALLOW_ANONYMOUS). */
  readonly open: boolean;
  /** The key when it is one of ours, "" when none is asked for and none given; undefined: refuse. */
  authorise(given: string): string | undefined;
}

/** Compares by digest in constant time, so that neither a key's length nor its beginning shows in the time taken. */
export function createKeys(keys: readonly string[]): Keys {
  const digests = keys.map((key) => ({ key, digest: hash("sha256", key, "buffer") }));
  return {
    open: keys.length === 0,
    authorise(given) {
      if (keys.length === 0) return "";
      const digest = hash("sha256", given, "buffer");
      let found: string | undefined;
      for (const known of digests) if (timingSafeEqual(known.digest, digest)) found = known.key;
      return found;
    },
  };
}

/** Key in `authorization: Bearer`, Basic (as user) or `x-api-key`; "" when there is none. */
export function keyOf(request: HttpRequest): string {
  const direct = request.headers["x-api-key"];
  if (typeof direct === "string" && direct !== "") return direct;
  const [scheme = "", value = ""] = (request.headers.authorization ?? "").split(" ", 2);
  if (scheme.toLowerCase() === "bearer") return value;
  if (scheme.toLowerCase() === "basic") return Buffer.from(value, "base64").toString().split(":", 1)[0] ?? "";
  return "";
}
