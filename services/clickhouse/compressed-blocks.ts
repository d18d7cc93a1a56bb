// ClickHouse's own compression, for `compress=1` and `decompress=1`: blocks of a checksum, method, two sizes and data. JDBC
// drivers and clickhouse-go ask for it unless they are told not to.
import { setImmediate } from "node:timers/promises";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { compressLz4Block, decompressLz4Block, literalLz4Block } from "#lib/process/lz4.ts";
import { cityHash128 } from "./city-hash.ts";
import { endpointError } from "./errors.ts";

const CHECKSUM_BYTES = 16;
const HEADER_BYTES = 9;
/** What ClickHouse makes, and a few milliseconds of work. */
const BLOCK_BYTES = 1024 * 1024;
const METHODS = { none: 0x02, lz4: 0x82, zstd: 0x90 };
export type BlockMethod = keyof typeof METHODS;

/** The method that the setting network_compression_method names; lz4hc is written as lz4, as the reader cannot tell. */
export function blockMethodOf(name: string | undefined): BlockMethod {
  const wanted = (name ?? "lz4").toLowerCase();
  if (wanted === "none" || wanted === "zstd") return wanted;
  return "lz4";
}

/** The bytes in blocks, with turns for other requests in between. */
export async function* compressBlocks(bytes: Uint8Array, method: BlockMethod): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    if (at > 0) await setImmediate();
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const data = compress(block, method);
    const rest = Buffer.allocUnsafe(HEADER_BYTES + data.length);
    rest.writeUInt8(METHODS[method]);
    rest.writeUInt32LE(rest.length, 1);
    rest.writeUInt32LE(block.length, 5);
    rest.set(data, HEADER_BYTES);
    yield Buffer.concat([cityHash128(rest), rest]);
  }
}

/** JDBC's reader knows LZ4 alone, so what does not get smaller is LZ4 all the same. */
function compress(block: Uint8Array, method: BlockMethod): Uint8Array {
  if (method === "none") return block;
  return method === "zstd" ? zstdCompressSync(block) : (compressLz4Block(block) ?? literalLz4Block(block));
}

/** Hands each block to `take` before the next is read; it may throw to end. Throws CANNOT_DECOMPRESS or a checksum's error. */
export async function decompressBlocks(bytes: Buffer, take: (block: Buffer) => void, maxBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    if (at > 0) await setImmediate();
    const header = at + CHECKSUM_BYTES;
    if (bytes.length < header + HEADER_BYTES) throw undecodable("a block is cut off");
    const [size, unfolded] = [bytes.readUInt32LE(header + 1), bytes.readUInt32LE(header + 5)];
    if (size < HEADER_BYTES || header + size > bytes.length) throw undecodable("a block is cut off");
    if (unfolded > maxBytes) throw undecodable(`a block declares ${unfolded} bytes, more than ${maxBytes}`);
    const checked = bytes.subarray(header, header + size);
    if (!bytes.subarray(at, header).equals(cityHash128(checked))) throw undecodable("a block's checksum is wrong");
    take(decompress(checked, unfolded));
    at = header + size;
  }
}

function decompress(block: Buffer, size: number): Buffer {
  const [method, data] = [block.readUInt8(), block.subarray(HEADER_BYTES)];
  try {
    if (method === METHODS.lz4) return decompressLz4Block(data, size);
    if (method === METHODS.zstd) return zstdDecompressSync(data, { maxOutputLength: Math.max(size, 1) });
  } catch (error) {
    throw undecodable(error instanceof Error ? error.message : String(error));
  }
  if (method === METHODS.none && data.length === size) return data;
  throw undecodable(`a block has the method 0x${method.toString(16)}; LZ4, ZSTD and NONE are known`);
}

function undecodable(what: string) {
  return endpointError(354, `The body cannot be decompressed (decompress=1): ${what}.`);
}
