import { hash, randomFillSync } from "node:crypto";

const UUID_TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const NIL_UUID = "00000000-0000-0000-0000-000000000000";

/** 16 bytes in network order, or undefined when the text is no UUID in its 36-character form (any version). */
export function parseUuid(text: string): Uint8Array | undefined {
  if (text.length !== 36 || !UUID_TEXT.test(text)) return undefined;
  return Buffer.from(
    text.slice(0, 8) + text.slice(9, 13) + text.slice(14, 18) + text.slice(19, 23) + text.slice(24),
    "hex",
  );
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
