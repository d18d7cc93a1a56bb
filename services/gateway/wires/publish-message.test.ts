import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import { PublishRequestSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { textOf } from "#lib/events/json-cursor.ts";
import type { EventInput } from "#lib/events/validate.ts";
import { cutPublishMessage } from "./publish-message.ts";
import { readEvent } from "./rpc.ts";

const MAX = 5;

const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constant("é😀"));
const event = fc.record({
  ...{ id: text, event: text, distinctId: text, source: text },
  value: fc.option(fc.double(), { nil: undefined }),
  time: fc.option(
    fc.record({
      seconds: fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n }),
      nanos: fc.oneof(fc.nat(999_999_999), fc.integer()),
    }),
    { nil: undefined },
  ),
  propertiesKind: fc.oneof(
    fc.constant({ case: undefined }),
    fc.record({ case: fc.constant("propertiesJson" as const), value: text }),
    fc.record({ case: fc.constant("properties" as const), value: fc.constant({ a: 1 }) }),
  ),
});
const request = fc.record({
  events: fc.array(event, { maxLength: MAX }),
  checkStored: fc.boolean(),
  returnPositions: fc.boolean(),
});

/** What the library makes of it. */
function plain(message: Buffer) {
  const { events, checkStored, returnPositions } = fromBinary(PublishRequestSchema, message);
  return { events: events.map(readEvent).map(told), count: events.length, checkStored, returnPositions };
}

function told(input: ReturnType<typeof readEvent>) {
  if ("fault" in input) return input;
  const { properties, time } = input as EventInput & { properties: Parameters<typeof textOf>[0] | string | undefined };
  const isText = properties === undefined || typeof properties === "string" || !Buffer.isBuffer(properties.bytes);
  return {
    ...input,
    properties: (isText ? properties : textOf(properties)) || undefined,
    time: time && [time.us, time.text()],
  };
}

function cut(message: Buffer) {
  const found = cutPublishMessage(message, MAX);
  return found && { ...found, events: found.events.map(told) };
}

it("reads what the library reads, or leaves it to the library", () => {
  let count = 0;
  fc.assert(
    fc.property(request, (fields) => {
      const message = Buffer.from(toBinary(PublishRequestSchema, create(PublishRequestSchema, fields as never)));
      const found = cut(message);
      if (!found) return;
      count++;
      expect(found).toEqual(plain(message));
    }),
    { numRuns: 500 },
  );
  expect(count).toBeGreaterThan(50);
});

it("reads of damaged messages what the library reads, or leaves them to the library", () => {
  fc.assert(
    fc.property(
      request,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
      fc.nat(),
      (fields, damage, end) => {
        const whole = Buffer.from(toBinary(PublishRequestSchema, create(PublishRequestSchema, fields as never)));
        const message = whole.subarray(0, whole.length - (end % 3 === 0 ? end % (whole.length + 1) : 0));
        for (const [at, byte] of damage) if (message.length > 0) message[at % message.length] = byte;
        const found = cut(message);
        if (found && found.count <= MAX) expect(found).toEqual(plain(message));
      },
    ),
    { numRuns: 2000 },
  );
});

it("leaves tags to the library that are written longer than they are", () => {
  const event = [0x12, 1, 0x65];
  for (const tag of [[0x0a], [0x8a, 0], [0x8a, 0x80, 0x80, 0x80, 0x80, 0]]) {
    expect(cut(Buffer.from([...tag, event.length, ...event]))?.count).toBe(tag.length === 1 ? 1 : undefined);
  }
});

it("takes what our clients send without the library", () => {
  const events = [
    {
      ...{ id: "0192f0c1-2345-7abc-8def-0123456789ab", event: "page_view", distinctId: "é", source: "web", value: 1.5 },
      time: { seconds: 1_800_000_000n, nanos: 5 },
      propertiesKind: { case: "propertiesJson" as const, value: '{"a":"é"}' },
    },
    { event: "empty" },
  ];
  const message = Buffer.from(toBinary(PublishRequestSchema, create(PublishRequestSchema, { events })));
  expect(cut(message)).toEqual(plain(message));
});

it("counts events beyond the most, and makes nothing of them", () => {
  const events = Array.from({ length: 3 * MAX }, () => ({ event: "e" }));
  const message = Buffer.from(toBinary(PublishRequestSchema, create(PublishRequestSchema, { events })));
  const found = cutPublishMessage(message, MAX);
  expect([found?.count, found?.events.length]).toEqual([3 * MAX, MAX]);
});
