// LZ4: blocks, which lz4js reads and writes, and the frames around them, as Kafka and HTTP's Content-Encoding have them.
// lz4js's own frames are refused by Java (they are not marked as independent blocks) and its reader takes block checksums
// for data, so frames are written and read here.
import { createRequire } from "node:module";

interface Lz4 {
  compressBlock(source: Uint8Array, target: Uint8Array, from: number, length: number, hashes: Uint32Array): number;
  decompressBlock(source: Uint8Array, target: Uint8Array, from: number, length: number, at: number): number;
  compressBound(length: number): number;
}

const require = createRequire(import.meta.url);
// CommonJS without types, and some megabytes of buffers: loaded when there is something to do.
const lz4 = () => require("lz4js") as Lz4;

const LZ4_MAGIC = 0x184d2204;
const LZ4_BLOCK_BYTES = 64 * 1024;
// Magic, flags (version 1, independent blocks), 64 KB blocks, and the checksum of those two bytes, which is constant.
const LZ4_HEADER = Buffer.from("04224d18604082", "hex");
const LZ4_END = Buffer.alloc(4);
const LZ4_STORED = 0x80000000;

const hashes = new Uint32Array(1 << 16);

/** Undefined when the block does not get smaller. */
export function compressLz4Block(block: Uint8Array): Buffer | undefined {
  const target = Buffer.allocUnsafe(lz4().compressBound(block.length));
  hashes.fill(0); // A match into another block would break independence.
  const size = lz4().compressBlock(block, target, 0, block.length, hashes);
  return size === 0 || size >= block.length ? undefined : Buffer.from(target.subarray(0, size));
}

/** The block as literals alone, some bytes larger: for readers that know no stored blocks. */
export function literalLz4Block(block: Uint8Array): Buffer {
  if (block.length < 15) return Buffer.concat([Buffer.from([block.length << 4]), block]);
  const more = block.length - 15;
  const length = Buffer.alloc(Math.floor(more / 255) + 1, 255);
  length[length.length - 1] = more % 255;
  return Buffer.concat([Buffer.from([0xf0]), length, block]);
}

/** Throws when the block does not unfold to exactly `size` bytes. */
export function decompressLz4Block(block: Uint8Array, size: number): Buffer {
  const target = Buffer.alloc(size);
  const end = lz4().decompressBlock(block, target, 0, block.length, 0);
  if (end !== size) throw new Error(`an lz4 block unfolds to ${end} bytes and declares ${size}`);
  return target;
}

/** One frame of independent blocks. */
export function writeLz4Frame(bytes: Buffer): Buffer {
  const parts: Buffer[] = [LZ4_HEADER];
  for (let at = 0; at < bytes.length; at += LZ4_BLOCK_BYTES) {
    const block = bytes.subarray(at, at + LZ4_BLOCK_BYTES);
    const compressed = compressLz4Block(block);
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(compressed?.length ?? block.length + LZ4_STORED);
    parts.push(length, compressed ?? block);
  }
  parts.push(LZ4_END);
  return Buffer.concat(parts);
}

/** Throws when the bytes are no frame, or could unfold to more than `maxBytes`. */
export function readLz4Frame(bytes: Buffer, maxBytes: number): Buffer {
  if (bytes.length < 7 || bytes.readUInt32LE(0) !== LZ4_MAGIC)
    throw new Error("the bytes do not begin as an lz4 frame");
  const flags = bytes[4] ?? 0;
  const blockBytesMax = 1 << (8 + 2 * (((bytes[5] ?? 0) >> 4) & 7));
  const blockTrailer = (flags & 0x10) !== 0 ? 4 : 0;
  const first = 7 + ((flags & 0x08) !== 0 ? 8 : 0) + ((flags & 0x01) !== 0 ? 4 : 0);

  let bound = 0;
  for (const block of lz4Blocks(bytes, first, blockTrailer)) bound += block.stored ? block.length : blockBytesMax;
  if (bound > maxBytes) throw new Error(`an lz4 frame would unfold to ${bound} bytes, more than ${maxBytes}`);

  const target = Buffer.allocUnsafe(bound);
  let end = 0;
  for (const block of lz4Blocks(bytes, first, blockTrailer)) {
    if (block.stored) end += bytes.copy(target, end, block.at, block.at + block.length);
    else end = lz4().decompressBlock(bytes, target, block.at, block.length, end);
    if (!(end <= bound)) throw new Error("an lz4 block unfolds to more than its frame declares");
  }
  // Records are slices of this buffer: a copy keeps a small batch from pinning a whole frame's worth of memory.
  return end * 2 < bound ? Buffer.from(target.subarray(0, end)) : target.subarray(0, end);
}

function* lz4Blocks(
  bytes: Buffer,
  first: number,
  trailer: number,
): Generator<{ at: number; length: number; stored: boolean }> {
  let at = first;
  while (at + 4 <= bytes.length) {
    const word = bytes.readUInt32LE(at);
    if (word === 0) return;
    const stored = word >= LZ4_STORED;
    const length = stored ? word - LZ4_STORED : word;
    if (at + 4 + length > bytes.length) throw new Error("an lz4 block is cut off");
    yield { at: at + 4, length, stored };
    at += 4 + length + trailer;
  }
  throw new Error("an lz4 frame has no end");
}
