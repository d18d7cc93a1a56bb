import { describe, expect, it } from "vitest";
import { murmur2, partitionOf } from "./partitioner.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("murmur2", () => {
  // The vectors of Kafka's own UtilsTest.testMurmur2.
  it.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ])("hashes %s as Kafka's Java client does", (key, hash) => {
    expect(murmur2(bytes(key))).toBe(hash);
  });

  it("reads bytes above 127 as unsigned", () => {
    expect(murmur2(Uint8Array.of(0xff, 0xfe, 0xfd, 0xfc, 0xfb))).toBe(murmur2(Buffer.from("fffefdfcfb", "hex")));
    expect(murmur2(Uint8Array.of(0xff))).not.toBe(murmur2(Uint8Array.of(0x7f)));
  });
});

describe("partitionOf", () => {
  it("masks the sign bit of a negative hash instead of taking its absolute value", () => {
    expect(partitionOf(bytes("21"), 12)).toBe((-973932308 & 0x7fffffff) % 12);
    expect(partitionOf(bytes("21"), 12)).not.toBe(973932308 % 12);
  });

  it("spreads keys over every partition and stays inside the range", () => {
    const counts = new Array<number>(12).fill(0);
    for (let i = 0; i < 12_000; i++) {
      const partition = partitionOf(bytes(`device-${i}`), 12);
      counts[partition] = (counts[partition] ?? 0) + 1;
    }
    expect(counts).toHaveLength(12);
    for (const count of counts) expect(count).toBeGreaterThan(800);
  });
});
