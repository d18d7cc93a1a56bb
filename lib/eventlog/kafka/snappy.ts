// Snappy as Kafka's clients write it: raw blocks, or such blocks in Java's framing. Decoding alone: snappyjs, which writes
// them, does not come back from a block with a literal of more than 2 GB, and a consumer would stand still behind it.
// Format: github.com/google/snappy, format_description.txt.

const XERIAL_HEADER = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
const XERIAL_HEADER_BYTES = 16;

/** Throws an Error for bytes that are no snappy, and for what says that it unfolds to more than `maxBytes`. */
export function decodeSnappy(bytes: Buffer, maxBytes: number): Buffer {
  const blocks = bytes.subarray(0, XERIAL_HEADER.length).equals(XERIAL_HEADER) ? xerialBlocks(bytes) : [bytes];
  const heads = blocks.map(readHead);
  const total = heads.reduce((sum, { length }) => sum + length, 0);
  if (total > maxBytes) throw new Error(`a snappy batch would unfold to ${total} bytes, more than ${maxBytes}`);
  const target = Buffer.allocUnsafe(total);
  let from = 0;
  for (const [i, { length, at }] of heads.entries()) {
    decodeBlock(blocks[i] as Buffer, at, target.subarray(from, from + length));
    from += length;
  }
  return target;
}

function xerialBlocks(bytes: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEADER_BYTES; at < bytes.length; ) {
    if (at + 4 > bytes.length) throw malformed();
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.length) throw malformed();
    blocks.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return blocks;
}

/** The length that the block unfolds to, and where its elements begin. */
function readHead(block: Buffer): { length: number; at: number } {
  let length = 0;
  for (let at = 0; at < 5; at++) {
    const byte = block[at];
    if (byte === undefined) break;
    length += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) return { length, at: at + 1 };
  }
  throw malformed();
}

/** Fills `target` to its last byte. */
function decodeBlock(block: Buffer, first: number, target: Buffer): void {
  let [at, end] = [first, 0];
  while (at < block.length) {
    const tag = block[at++] as number;
    const kind = tag & 3;
    if (kind === 0) {
      const lengthBytes = Math.max(0, (tag >> 2) - 59);
      const length = (lengthBytes === 0 ? tag >> 2 : readNumber(block, at, lengthBytes)) + 1;
      at += lengthBytes;
      if (at + length > block.length || end + length > target.length) throw malformed();
      block.copy(target, end, at, at + length);
      at += length;
      end += length;
      continue;
    }
    const length = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    const offsetBytes = kind === 3 ? 4 : kind;
    const offset = readNumber(block, at, offsetBytes) + (kind === 1 ? (tag >> 5) << 8 : 0);
    at += offsetBytes;
    if (offset === 0 || offset > end || end + length > target.length) throw malformed();
    // Byte by byte: a copy may reach into what it writes itself, which repeats it.
    for (const until = end + length; end < until; end++) target[end] = target[end - offset] as number;
  }
  if (end !== target.length) throw malformed();
}

/** One to four bytes, the lowest first. */
function readNumber(bytes: Buffer, at: number, count: number): number {
  if (at + count > bytes.length) throw malformed();
  return bytes.readUIntLE(at, count);
}

function malformed(): Error {
  return new Error("a snappy batch is malformed");
}
