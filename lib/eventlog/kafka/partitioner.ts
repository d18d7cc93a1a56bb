// Which partition a key belongs to. It must agree bit for bit with the default partitioner of Kafka's Java client, or a
// key's records would sit on two partitions as soon as another producer writes to the topic, and lose their order.

const SEED = 0x9747b28c;
const MULTIPLIER = 0x5bd1e995;

/** The murmur2 hash of Kafka's Java client, as a signed 32-bit integer. */
export function murmur2(key: Uint8Array): number {
  const length = key.length;
  const tail = length & ~3;
  let hash = SEED ^ length;
  for (let i = 0; i < tail; i += 4) {
    let block = byteAt(key, i) | (byteAt(key, i + 1) << 8) | (byteAt(key, i + 2) << 16) | (byteAt(key, i + 3) << 24);
    block = Math.imul(block, MULTIPLIER);
    block ^= block >>> 24;
    hash = Math.imul(hash, MULTIPLIER) ^ Math.imul(block, MULTIPLIER);
  }
  const rest = length & 3;
  if (rest === 3) hash ^= byteAt(key, tail + 2) << 16;
  if (rest >= 2) hash ^= byteAt(key, tail + 1) << 8;
  if (rest >= 1) hash = Math.imul(hash ^ byteAt(key, tail), MULTIPLIER);
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER);
  return hash ^ (hash >>> 15);
}

/**
 * The partition of `key` on a topic with `partitions` partitions (at least one). The sign bit is masked off, as Java's
 * `Utils.toPositive` does it: taking the absolute value would differ for negative hashes.
 */
export function partitionOf(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

function byteAt(bytes: Uint8Array, index: number): number {
  return bytes[index] as number;
}
