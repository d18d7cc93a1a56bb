// Compression codecs of Kafka record batches. kafkajs brings gzip only, and its consumer stops for good at the first
// batch it cannot decompress: one foreign producer with lz4 would halt a partition. So all four are here, each with a
// bound on its output, because a few kilobytes of any of them can unfold into gigabytes.

import { createRequire } from "node:module";
import { promisify } from "node:util";
import { gunzip, gzip, zstdCompress, zstdDecompress } from "node:zlib";
import kafkajs from "kafkajs";
import type { ProduceRequest } from "./record-batch.ts";
import { decodeSnappy } from "./snappy.ts";

/** No honest batch comes near this: brokers bound a compressed batch to about 1 MB. */
const UNCOMPRESSED_BYTES_MAX = 64 * 1024 * 1024;

export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd";

interface Codec {
  compress(encoder: { buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
}

interface Lz4 {
  compressBlock(source: Uint8Array, target: Uint8Array, from: number, length: number, hashes: Uint32Array): number;
  decompressBlock(source: Uint8Array, target: Uint8Array, from: number, length: number, at: number): number;
  compressBound(length: number): number;
}

const require = createRequire(import.meta.url);
const gzipAsync = promisify(gzip);
const gunzipAsync = promisify(gunzip);
const zstdCompressAsync = promisify(zstdCompress);
const zstdDecompressAsync = promisify(zstdDecompress);

/** Makes every compression that Kafka knows readable and writable. Process-wide, since kafkajs keeps one table. */
export function registerCodecs(): void {
  const { CompressionCodecs, CompressionTypes } = kafkajs;
  const limits = { maxOutputLength: UNCOMPRESSED_BYTES_MAX };
  const codecs: Record<number, Codec> = {
    [CompressionTypes.GZIP]: {
      compress: (encoder) => gzipAsync(encoder.buffer),
      decompress: (bytes) => gunzipAsync(bytes, limits),
    },
    [CompressionTypes.ZSTD]: {
      compress: (encoder) => zstdCompressAsync(encoder.buffer),
      decompress: (bytes) => zstdDecompressAsync(bytes, limits),
    },
    [CompressionTypes.Snappy]: createSnappyCodec(),
    [CompressionTypes.LZ4]: createLz4Codec(),
  };
  Object.assign(
    CompressionCodecs,
    Object.fromEntries(Object.entries(codecs).map(([type, codec]) => [type, () => codec])),
  );
}

/** The number by which kafkajs and the wire format know a compression. */
export function compressionType(compression: Compression): number {
  const { CompressionTypes } = kafkajs;
  const types = {
    none: CompressionTypes.None,
    gzip: CompressionTypes.GZIP,
    snappy: CompressionTypes.Snappy,
    lz4: CompressionTypes.LZ4,
    zstd: CompressionTypes.ZSTD,
  };
  return types[compression];
}

/** How a batch's records are compressed; undefined for none. */
export function compressorOf(compression: Compression): ProduceRequest["compression"] {
  if (compression === "none") return undefined;
  const type = compressionType(compression);
  const codecs = kafkajs.CompressionCodecs as unknown as Record<number, () => Codec>;
  return { type, compress: async (buffer) => (codecs[type] as () => Codec)().compress({ buffer }) };
}

function createSnappyCodec(): Codec {
  const { compress } = (require("kafkajs-snappy") as () => Codec)();
  return { compress, decompress: async (bytes) => decodeSnappy(bytes, UNCOMPRESSED_BYTES_MAX) };
}

const LZ4_MAGIC = 0x184d2204;
const LZ4_BLOCK_BYTES = 64 * 1024;
// Magic, flags (version 1, independent blocks), 64 KB blocks, and the checksum of those two bytes, which is constant.
const LZ4_HEADER = Buffer.from("04224d18604082", "hex");
const LZ4_END = Buffer.alloc(4);
const LZ4_STORED = 0x80000000;

/**
 * lz4js brings the block format; its own frames are refused by Java (they are not marked as independent blocks) and its
 * reader takes block checksums for data, so the frame around the blocks is written and read here.
 */
function createLz4Codec(): Codec {
  const lz4 = require("lz4js") as Lz4;
  return {
    compress: async (encoder) => writeLz4Frame(lz4, encoder.buffer),
    decompress: async (bytes) => readLz4Frame(lz4, bytes),
  };
}

function writeLz4Frame(lz4: Lz4, bytes: Buffer): Buffer {
  const parts: Buffer[] = [LZ4_HEADER];
  const hashes = new Uint32Array(1 << 16);
  const scratch = Buffer.allocUnsafe(lz4.compressBound(LZ4_BLOCK_BYTES));
  for (let at = 0; at < bytes.length; at += LZ4_BLOCK_BYTES) {
    const block = bytes.subarray(at, at + LZ4_BLOCK_BYTES);
    hashes.fill(0); // A match into an earlier block would break independence.
    const size = lz4.compressBlock(block, scratch, 0, block.length, hashes);
    const stored = size === 0 || size >= block.length;
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(stored ? block.length + LZ4_STORED : size);
    parts.push(length, stored ? block : Buffer.from(scratch.subarray(0, size)));
  }
  parts.push(LZ4_END);
  return Buffer.concat(parts);
}

function readLz4Frame(lz4: Lz4, bytes: Buffer): Buffer {
  if (bytes.length < 7 || bytes.readUInt32LE(0) !== LZ4_MAGIC)
    throw new Error("an lz4 batch does not begin as a frame");
  const flags = bytes[4] ?? 0;
  const blockBytesMax = 1 << (8 + 2 * (((bytes[5] ?? 0) >> 4) & 7));
  const blockTrailer = (flags & 0x10) !== 0 ? 4 : 0;
  const first = 7 + ((flags & 0x08) !== 0 ? 8 : 0) + ((flags & 0x01) !== 0 ? 4 : 0);

  let bound = 0;
  for (const block of lz4Blocks(bytes, first, blockTrailer)) bound += block.stored ? block.length : blockBytesMax;
  refuseOver(bound);

  const target = Buffer.allocUnsafe(bound);
  let end = 0;
  for (const block of lz4Blocks(bytes, first, blockTrailer)) {
    if (block.stored) end += bytes.copy(target, end, block.at, block.at + block.length);
    else end = lz4.decompressBlock(bytes, target, block.at, block.length, end);
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

function refuseOver(bytes: number): void {
  if (bytes <= UNCOMPRESSED_BYTES_MAX) return;
  throw new Error(`a compressed batch would unfold to ${bytes} bytes, more than ${UNCOMPRESSED_BYTES_MAX}`);
}
