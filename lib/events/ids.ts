// UUIDs: parsing, formatting, version 7, and the person id derived from a distinct id.
import { hash, randomFillSync } from "node:crypto";

const NIL_UUID = "00000000-0000-0000-0000-000000000000";

/** Where the two digits of each byte begin in a UUID's text. */
const DIGIT_PAIRS = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34] as const;
const DASHES = [8, 13, 18, 23] as const;

/** Value of each ASCII hexadecimal digit; -1 for every other character. */
const HEX_VALUES = new Int8Array(128).fill(-1);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  HEX_VALUES[digit.charCodeAt(0)] = value;
  HEX_VALUES[digit.toUpperCase().charCodeAt(0)] = value;
}

/**
 * 16 bytes in network order, or undefined when the text is no UUID in its 36-character form (any version). Digit by
 * digit, because it runs once an event: a regular expression and a hex decoder take four times as long.
 */
export function parseUuid(text: string): Uint8Array | undefined {
  if (text.length !== 36) return undefined;
  for (const at of DASHES) if (text.charCodeAt(at) !== 0x2d) return undefined;
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) {
    const at = DIGIT_PAIRS[i] as number;
    const high = HEX_VALUES[text.charCodeAt(at)] ?? -1;
    const low = HEX_VALUES[text.charCodeAt(at + 1)] ?? -1;
    if (high < 0 || low < 0) return undefined;
    bytes[i] = high * 16 + low;
  }
  return bytes;
}

/** The nil and the max UUID (RFC 9562): they say that there is none. */
export function isNoUuid(bytes: Uint8Array): boolean {
  const first = bytes[0];
  return (first === 0 || first === 0xff) && bytes.every((byte) => byte === first);
}

/** Lower-case text of 16 bytes. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * UUIDv7 source (RFC 9562): 48 bits of milliseconds, then a 12-bit counter that keeps one process' ids in order within
 * a millisecond, then 62 random bits. The clock may step back: the last millisecond is kept until it has caught up.
 */
export function createUuidV7(nowMs: () => number = Date.now): () => Uint8Array {
  const pool = Buffer.alloc(8 * 512);
  let poolAt = pool.length;
  let lastMs = 0;
  let counter = 0;
  return () => {
    const now = nowMs();
    if (now > lastMs) {
      lastMs = now;
      counter = 0;
    } else if (++counter > 0xfff) {
      lastMs++;
      counter = 0;
    }
    if (poolAt === pool.length) {
      randomFillSync(pool);
      poolAt = 0;
    }
    const id = new Uint8Array(16);
    const high = Math.floor(lastMs / 0x1_0000);
    id[0] = high >>> 24;
    id[1] = high >>> 16;
    id[2] = high >>> 8;
    id[3] = high;
    id[4] = lastMs >>> 8;
    id[5] = lastMs;
    id[6] = 0x70 | (counter >>> 8);
    id[7] = counter;
    id.set(pool.subarray(poolAt, poolAt + 8), 8);
    id[8] = 0x80 | ((id[8] ?? 0) & 0x3f);
    poolAt += 8;
    return id;
  };
}

const NAME = Buffer.alloc(16 + 3 * 512);

/** UUIDv5 (RFC 9562): the same id for the same name, for callers whose ids are texts of their own. */
export function uuidV5(namespace: Uint8Array, name: string): Uint8Array {
  const room = 16 + 3 * name.length;
  const bytes = room <= NAME.length ? NAME : Buffer.allocUnsafe(room);
  bytes.set(namespace);
  // As text: a buffer for each digest takes three times as long, with all that collecting it costs.
  const digest = hash("sha1", bytes.subarray(0, 16 + bytes.write(name, 16)), "binary");
  const id = new Uint8Array(16);
  for (let i = 0; i < 16; i++) id[i] = digest.charCodeAt(i);
  id[6] = ((id[6] as number) & 0x0f) | 0x50;
  id[8] = ((id[8] as number) & 0x3f) | 0x80;
  return id;
}

/**
 * Person of a distinct id that no identity fact speaks of: SHA-1 of its UTF-8 bytes without a namespace, marked as
 * version 5 (product-analytics contract, section 4.1). The nil UUID for an empty distinct id: nobody.
 */
export function personIdOf(distinctId: string): string {
  if (distinctId === "") return NIL_UUID;
  const hex = hash("sha1", distinctId, "hex");
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
