// UUIDs of version 7 that sort in the order in which a page made them.
import { native } from "./native.ts";

/** When it was made, by the clock of then: milliseconds since 1970. */
export function timeOf(uuidv7: string): number {
  return Number.parseInt(uuidv7.slice(0, 8) + uuidv7.slice(9, 13), 16);
}

let lastMs = 0;
let sequence = 0;

/** A UUID of version 7. Those of one page sort in the order in which they were made, also when its clock is set back. */
export function uuidv7(): string {
  const nowMs = native.nowMs();
  sequence = nowMs > lastMs ? 0 : sequence + 1;
  lastMs = Math.max(nowMs, lastMs);
  if (sequence > 0xfff) {
    sequence = 0;
    lastMs++;
  }
  const bytes = new Uint8Array(16);
  if (native.randomValues) native.randomValues(bytes);
  else for (let i = 0; i < 16; i++) bytes[i] = Math.random() * 256;
  let rest = lastMs;
  for (let i = 5; i >= 0; i--) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes[6] = 0x70 | (sequence >> 8);
  bytes[7] = sequence & 0xff;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
