// Compares tokens in constant time.
import { hash, timingSafeEqual } from "node:crypto";

/** True for the token. Compares digests in constant time: neither length nor beginning shows in the time taken. */
export function createTokenCheck(token: string): (given: string) => boolean {
  const expected = hash("sha256", token, "buffer");
  return (given) => timingSafeEqual(hash("sha256", given, "buffer"), expected);
}
