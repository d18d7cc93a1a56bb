// What is asked of a body whose sender is not known yet: clients of /batch/ send their key inside it.
import type { Holder } from "./admission.ts";
import { BODY_KEY_NAMES } from "./caller-keys.ts";

/** Largest body, decoded, that is read before a key is known. */
const BODY_BYTES_MAX = { stranger: 2 * 1024 * 1024, origin: 4 * 1024 * 1024 };
/** What of a body has to come before it is asked who sends it. */
export const BEGINNING_BYTES = 1024;

export function bodyBytesMax({ kind }: Holder, maxBodyBytes: number): number {
  return kind === "key" ? maxBodyBytes : Math.min(maxBodyBytes, BODY_BYTES_MAX[kind]);
}

const KEY_FIRST = new RegExp(`^\\uFEFF?\\s*\\{\\s*"(?:${BODY_KEY_NAMES.join("|")})"\\s*:\\s*"([^"\\\\]*)"`);

/** The key that a body begins with, trimmed; "" when it does not, or not in plain letters. */
export function keyAtStart(beginning: Buffer): string {
  const [, key = ""] = KEY_FIRST.exec(beginning.toString()) ?? [];
  return key.trim();
}
