// Compression codecs of Kafka record batches. kafkajs brings gzip only, and its consumer stops for good at the first
// batch it cannot decompress: one foreign producer with lz4 would halt a partition. So all four are here, each with a
// bound on its output, because a few kilobytes of any of them can unfold into gigabytes.

import { createRequire } from "node:module";
import { promisify } from "node:util";
import { gunzip, gzip, zstdCompress, zstdDecompress } from "node:zlib";
import kafkajs from "kafkajs";
import { readLz4Frame, writeLz4Frame } from "#lib/process/lz4.ts";
import type { ProduceRequest } from "./record-batch.ts";
import { decodeSnappy } from "./snappy.ts";

/** No honest batch comes near this: brokers bound a compressed batch to about 1 MB. */
const UNCOMPRESSED_BYTES_MAX = 64 * 1024 * 1024;

export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd";

interface Codec {
  compress(encoder: { buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
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

function createLz4Codec(): Codec {
  return {
    compress: async (encoder) => writeLz4Frame(encoder.buffer),
    decompress: async (bytes) => readLz4Frame(bytes, UNCOMPRESSED_BYTES_MAX),
  };
}
