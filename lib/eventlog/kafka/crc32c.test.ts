import { createRequire } from "node:module";
import fc from "fast-check";
import { expect, it } from "vitest";
import { crc32c } from "./crc32c.ts";

const plain = createRequire(import.meta.url)("kafkajs/src/protocol/recordBatch/crc32C") as (bytes: Buffer) => number;

it("gives the check value of the CRC-32C specification", () => {
  const bytes = Buffer.from("123456789");
  expect(crc32c(bytes, 0, bytes.length)).toBe(0xe3069283);
});

it("agrees with the plain loop for any bytes and any part of them", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), (bytes, skip) => {
      const from = Math.min(skip, bytes.length);
      expect(crc32c(bytes, from, bytes.length)).toBe(plain(Buffer.from(bytes.subarray(from))) >>> 0);
    }),
  );
});
