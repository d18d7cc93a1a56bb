import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { cityHash128 } from "./city-hash.ts";
import { type BlockMethod, compressBlocks, decompressBlocks } from "./compressed-blocks.ts";

describe("CityHash128 1.0.2", () => {
  // From the package clickhouse-cityhash of PyPI, over bytes (i * 7 + n) mod 256 for n bytes.
  it.each([
    [0, "2b9ac064fc9df03d291ee592c340b53c"],
    [1, "6c3f2b804fab035a1ae9318a3c8aa858"],
    [3, "8669a11d6bfa08312d6150c2f01b3032"],
    [7, "e32446bce155694dd09b4c5f018c2e25"],
    [8, "985ae3e86c34eb9fbad8455518f1f9f2"],
    [15, "ffc7a10a47b64314594c685a8398f970"],
    [16, "3d930c8990287e4ec7770444d611659b"],
    [33, "11ffe63b615e068a46a80c8146255435"],
    [127, "2c7d14dc18cd84242e0163390cb41e46"],
    [128, "901c915690f7bf519f1b9cbcf997a828"],
    [144, "227fbc9d0276a19b08a16461a4ae9ca9"],
    [160, "6d00a2acf743248d354dba8b09be91cb"],
    [300, "1c08189ada619b3c7b5c95315c97d9f9"],
    [65536, "f44b56311fe11649e7b000581654d82b"],
  ])("of %i bytes", (length, hash) => {
    const bytes = Buffer.from(Array.from({ length }, (_, at) => (at * 7 + length) & 255));
    expect(Buffer.from(cityHash128(bytes)).toString("hex")).toBe(hash);
  });
});

async function unfold(bytes: Buffer, maxBytes = 10_000_000): Promise<Buffer> {
  const blocks: Buffer[] = [];
  await decompressBlocks(bytes, (block) => blocks.push(block), maxBytes);
  return Buffer.concat(blocks);
}

const fold = async (bytes: Uint8Array, method: BlockMethod) =>
  Buffer.concat(await Array.fromAsync(compressBlocks(bytes, method)));

describe("blocks", () => {
  it.each(["lz4", "zstd", "none"] as const)("%s come back, whatever is in them", async (method) => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from("a"),
      randomBytes(14),
      randomBytes(15),
      randomBytes(270),
      randomBytes(100_000),
      Buffer.alloc(2_500_000, "abc def "),
    ]) {
      expect((await unfold(await fold(bytes, method))).equals(bytes)).toBe(true);
    }
  });

  it("that are lz4 are never stored: JDBC refuses those", async () => {
    expect((await fold(randomBytes(1000), "lz4")).readUInt8(16)).toBe(0x82);
  });

  it.each<[string, (bytes: Buffer) => void, number, RegExp]>([
    ["a wrong checksum", (bytes) => bytes.writeUInt8(bytes.readUInt8(40) ^ 1, 40), 0, /checksum is wrong/],
    ["a missing end", () => undefined, 1, /cut off/],
    ["a missing header", () => undefined, 30, /cut off/],
    ["more than the bound", (bytes) => bytes.writeUInt32LE(99_000_000, 21), 0, /declares 99000000 bytes/],
  ])("are refused for %s", async (_, damage, missing, message) => {
    const bytes = await fold(Buffer.alloc(1000, "abc"), "lz4");
    damage(bytes);
    await expect(unfold(bytes.subarray(0, bytes.length - missing))).rejects.toThrow(message);
  });
});
