import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { PointRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { decodePoint, encodePoint, type LogPoint, pointId } from "./point-record.ts";
import { PoisonRecordError } from "./record.ts";

const POINT: LogPoint = {
  bootId: new Uint8Array(16).fill(7),
  sequence: 2 ** 53 - 1,
  metric: "cpu_used",
  value: -0.25,
  tags: { host: "a", q: `"',;` },
  timeUs: 1_700_000_000_000_001,
  receivedUs: 1_700_000_000_000_002,
  relayId: "a",
  collector: "cpu",
};

it("a point is read as it was written", () => {
  expect(decodePoint(encodePoint(POINT))).toMatchObject({
    ...POINT,
    sequence: BigInt(POINT.sequence),
    timeUs: BigInt(POINT.timeUs),
    receivedUs: BigInt(POINT.receivedUs),
  });
});

it("its id is of 16 bytes, and another one for each sequence of a boot", () => {
  const idOf = (sequence: number) =>
    Buffer.from(pointId({ bootId: POINT.bootId, sequence: BigInt(sequence) })).toString("hex");
  expect(idOf(0)).toBe("07".repeat(16));
  expect(idOf(1)).toBe(`${"07".repeat(15)}06`);
  expect(new Set(Array.from({ length: 1000 }, (_, n) => idOf(n))).size).toBe(1000);
});

describe("bytes that cannot become a row are poison", () => {
  it.each([
    ["no message", Buffer.from("x")],
    ["a short boot id", encodePoint({ ...POINT, bootId: new Uint8Array(15) })],
    ["no metric", encodePoint({ ...POINT, metric: "" })],
    ["NaN", encodePoint({ ...POINT, value: Number.NaN })],
    ["infinity", encodePoint({ ...POINT, value: Number.NEGATIVE_INFINITY })],
    ["a time before 1970", encodePoint({ ...POINT, timeUs: -1 })],
    [
      "an arrival after 2299",
      toBinary(
        PointRecordSchema,
        create(PointRecordSchema, { ...decodePoint(encodePoint(POINT)), receivedUs: 2n ** 62n }),
      ),
    ],
  ])("%s", (_claim, bytes) => {
    expect(() => decodePoint(bytes)).toThrow(PoisonRecordError);
  });
});
