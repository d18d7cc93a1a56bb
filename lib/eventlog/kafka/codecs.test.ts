import { randomBytes } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import kafkajs from "kafkajs";
import { describe, expect, it } from "vitest";
import { compressionType, registerCodecs } from "./codecs.ts";

interface Codec {
  compress(encoder: { buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
}

registerCodecs();
function codec(name: "gzip" | "snappy" | "lz4" | "zstd"): Codec {
  const table = kafkajs.CompressionCodecs as unknown as Record<number, () => Codec>;
  const make = table[compressionType(name)];
  if (make === undefined) throw new Error(`no codec for ${name}`);
  return make();
}

const inputs: [string, Buffer][] = [
  ["one byte", Buffer.from("a")],
  ["a short text", Buffer.from("hello, hello, hello, hello")],
  ["noise over several blocks", randomBytes(200_000)],
  ["repetition over several blocks", Buffer.from("abcdefg".repeat(40_000))],
  ["both", Buffer.concat([randomBytes(70_000), Buffer.alloc(300_000), randomBytes(1_000)])],
];

describe.each(["gzip", "snappy", "lz4", "zstd"] as const)("%s", (name) => {
  it.each(inputs)("gives back %s", async (_what, bytes) => {
    const { compress, decompress } = codec(name);
    expect((await decompress(await compress({ buffer: bytes }))).equals(bytes)).toBe(true);
  });
});

it("snappy in Java's framing is read", async () => {
  const parts = ["first chunk, first chunk", "second chunk"].map((text) => Buffer.from(text));
  const framed = [Buffer.from("82534e41505059000000000100000001", "hex")];
  for (const part of parts) {
    const block = await codec("snappy").compress({ buffer: part });
    const size = Buffer.alloc(4);
    size.writeUInt32BE(block.length);
    framed.push(size, Buffer.from(block));
  }
  expect((await codec("snappy").decompress(Buffer.concat(framed))).toString()).toBe(parts.join(""));
});

it("an lz4 frame with content size, block checksums and a content checksum is read", async () => {
  const text = Buffer.from("stored as it is");
  const size = Buffer.alloc(4);
  size.writeUInt32LE(text.length + 0x80000000);
  // Flags 0x7c: independent blocks, block checksums, content size, content checksum. Checksums are not verified.
  const header = Buffer.from("04224d187c400f0000000000000000", "hex");
  const checksum = Buffer.from("deadbeef", "hex");
  const frame = Buffer.concat([header, size, text, checksum, size, text, checksum, Buffer.alloc(4), checksum]);
  expect((await codec("lz4").decompress(frame)).toString()).toBe(`${text}${text}`);
});

it.each([
  ["gzip", gzipSync(Buffer.alloc(65 * 1024 * 1024))],
  ["zstd", zstdCompressSync(Buffer.alloc(65 * 1024 * 1024))],
  ["snappy", Buffer.from("8080808010", "hex")],
] as const)("a %s bomb is refused", async (name, bomb) => {
  await expect((async () => codec(name).decompress(bomb))()).rejects.toThrow();
});

it.each([
  ["that is cut off", "04224d186040820f000080aa"],
  ["without an end", "04224d18604082"],
  ["without its magic bytes", "0011223344556677"],
])("an lz4 frame %s is refused", async (_what, hex) => {
  await expect(codec("lz4").decompress(Buffer.from(hex, "hex"))).rejects.toThrow(/lz4/);
});
