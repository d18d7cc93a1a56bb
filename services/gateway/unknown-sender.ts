// What is asked of a body whose sender is not known yet: clients of /batch/ send their key inside it.
import type { Holder } from "./admission.ts";
import { refused } from "./refusals.ts";

/** Largest body, decoded, that is read before a key is known. */
const BODY_BYTES_MAX = { stranger: 2 * 1024 * 1024, origin: 4 * 1024 * 1024 };
/** What of a body has to come before it is asked who sends it. */
export const BEGINNING_BYTES = 1024;
const DEPTH_MAX = 100;
/** Brackets, braces, commas and colons: what JSON.parse makes of a byte is bounded by these, not by the bytes. */
const TOKENS_MAX = 500_000;

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];

export function bodyBytesMax({ kind }: Holder, maxBodyBytes: number): number {
  return kind === "key" ? maxBodyBytes : Math.min(maxBodyBytes, BODY_BYTES_MAX[kind]);
}

/** The api_key that a body begins with, trimmed; "" when it does not, or not in plain letters. */
export function keyAtStart(beginning: Buffer): string {
  const [, key = ""] = /^\uFEFF?\s*\{\s*"api_key"\s*:\s*"([^"\\]*)"/.exec(beginning.toString()) ?? [];
  return key.trim();
}

/** Throws Refused for text that would cost more to parse than an ordinary batch does. Linear in its length. */
export function refuseCostly(bytes: Uint8Array): void {
  let depth = 0;
  let tokens = 0;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        at = endOfString(bytes, at);
        break;
      case OPEN_BRACKET:
      case OPEN_BRACE:
        depth += 1;
        tokens += 1;
        if (depth > DEPTH_MAX) throw refused("body_costly", { what: `is nested deeper than ${DEPTH_MAX} levels` });
        break;
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        depth -= 1;
        break;
      case COMMA:
      case COLON:
        tokens += 1;
        break;
    }
    if (tokens > TOKENS_MAX) {
      throw refused("body_costly", { what: `has more than ${TOKENS_MAX} values and separators` });
    }
  }
}

function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}
