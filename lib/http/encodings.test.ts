import zlib from "node:zlib";
import { describe, expect, it } from "vitest";
import { decode, decodeTo, ENCODING_NAMES, encode, UndecodableError } from "./encodings.ts";

const TEXT = Buffer.from("some text, ".repeat(20_000));
const MiB = 1024 * 1024;

async function* inPieces(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function decodeAll(name: string, source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  await decodeTo(name, source, (piece) => pieces.push(piece));
  return Buffer.concat(pieces);
}

describe.each(ENCODING_NAMES)("%s", (name) => {
  it.each([1, 7, 100_000])("decodes what comes in pieces of %i bytes", async (size) => {
    const bytes = await encode(name, TEXT);
    expect((await decodeAll(name, inPieces(bytes, size))).equals(TEXT)).toBe(true);
  });

  it("makes nothing of nothing", async () => {
    expect((await decode(name, Buffer.alloc(0), 10)).length).toBe(0);
    expect((await decode(name, await encode(name, Buffer.alloc(0)), 10)).length).toBe(0);
  });

  it("stops at the first piece that is refused, with the refusal", async () => {
    const bytes = await encode(name, Buffer.alloc(64 * MiB));
    let taken = 0;
    const refused = decodeTo(name, [bytes], (piece) => {
      taken += piece.length;
      if (taken > MiB) throw new Error("no room");
    });
    await expect(refused).rejects.toThrow("no room");
    expect(taken).toBeLessThan(2 * MiB);
  });

  it("passes on what the source fails with", async () => {
    const bytes = await encode(name, TEXT);
    async function* broken() {
      yield bytes.subarray(0, 10);
      throw new Error("the caller is gone");
    }
    await expect(decodeAll(name, broken())).rejects.toThrow("the caller is gone");
  });

  it("refuses what ends early, in one piece or many", async () => {
    const bytes = await encode(name, TEXT);
    const cut = bytes.subarray(0, bytes.length - 6);
    await expect(decode(name, cut, 10 * MiB)).rejects.toThrow(UndecodableError);
    await expect(decodeAll(name, inPieces(cut, 3))).rejects.toThrow(UndecodableError);
  });
});

it.each([1, 5, 1000])("gzip in several members is one body, in pieces of %i bytes", async (size) => {
  const bytes = Buffer.concat([zlib.gzipSync("one "), zlib.gzipSync("two")]);
  expect((await decodeAll("gzip", inPieces(bytes, size))).toString()).toBe("one two");
});

const SKIPPABLE = Buffer.from("502a4d1804000000deadbeef", "hex");

it.each([1, 5, 1000])(
  "zstd in several frames, some to be skipped, is one body, in pieces of %i bytes",
  async (size) => {
    const frames = [SKIPPABLE, zlib.zstdCompressSync("one "), SKIPPABLE, zlib.zstdCompressSync("two"), SKIPPABLE];
    expect((await decodeAll("zstd", inPieces(Buffer.concat(frames), size))).toString()).toBe("one two");
  },
);

it("zstd is refused for more frames than a body has", async () => {
  const frames = (count: number) => Buffer.concat(Array.from({ length: count }, () => SKIPPABLE));
  expect((await decode("zstd", frames(64), 10)).length).toBe(0);
  await expect(decode("zstd", frames(65), 10)).rejects.toThrow("more than 64 zstd frames");
});

it("zstd whose last frame is cut is refused", async () => {
  const bytes = Buffer.concat([zlib.zstdCompressSync("one"), zlib.zstdCompressSync("two").subarray(0, -3)]);
  await expect(decode("zstd", bytes, 100)).rejects.toThrow(UndecodableError);
});

describe.each([1, 1000])("in pieces of %i bytes", (size) => {
  it.each(ENCODING_NAMES)("bytes behind the end of %s are refused", async (name) => {
    const bytes = Buffer.concat([await encode(name, Buffer.from("text")), Buffer.from("more of it")]);
    await expect(decodeAll(name, inPieces(bytes, size))).rejects.toThrow(UndecodableError);
  });

  it("zeros behind the end of gzip are none", async () => {
    const bytes = Buffer.concat([zlib.gzipSync("text"), Buffer.alloc(20)]);
    expect((await decodeAll("gzip", inPieces(bytes, size))).toString()).toBe("text");
  });
});

it("zstd that asks for a larger window than HTTP has is refused before it is given", async () => {
  const params = { [zlib.constants.ZSTD_c_windowLog]: 27, [zlib.constants.ZSTD_c_enableLongDistanceMatching]: 1 };
  const compress = zlib.createZstdCompress({ params });
  compress.write(TEXT);
  const bytes = Buffer.concat((await Array.fromAsync(compress.end())) as Buffer[]);
  await expect(decode("zstd", bytes, 10 * MiB)).rejects.toThrow(UndecodableError);
});
