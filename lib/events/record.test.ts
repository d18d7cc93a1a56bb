import { toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { anyLogEvent } from "../../test/kit/event-arbitrary.ts";
import { createRecordEncoder, decodeRecord, encodeRecordPlain, type LogEvent, PoisonRecordError } from "./record.ts";

// Any UTF-16 at all, unpaired surrogates included, and long enough to need length prefixes of one and two bytes.
const text = fc.oneof(
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)), maxLength: 60 }),
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.constantFrom(
    "",
    "x".repeat(42),
    "x".repeat(43),
    "é".repeat(42),
    "日".repeat(42),
    "日".repeat(43),
    ...["y".repeat(127), "y".repeat(128), "é".repeat(128), "日".repeat(5461), "日".repeat(5462)],
    "y".repeat(20_000),
  ),
);
const event = anyLogEvent(text, {
  timeUs: fc.integer({ min: 0, max: 2 ** 52 }),
  propertiesJson: text.map((each) => `{"a":${JSON.stringify(each)}}`),
});

const SAMPLE = fc.sample(event, { seed: 7, numRuns: 1 })[0] as LogEvent;

describe("record encoder", () => {
  it("writes the bytes that the generated code writes, with U+FFFD for unpaired surrogates", () => {
    const encode = createRecordEncoder();
    fc.assert(
      fc.property(event, (each) => {
        expect(Buffer.from(encode(each)).toString("hex")).toBe(Buffer.from(encodeRecordPlain(each)).toString("hex"));
      }),
    );
  });

  it("writes the same for events of one request, of which it copies what they share", () => {
    const encode = createRecordEncoder();
    const requests = fc.tuple(fc.array(event, { maxLength: 4 }), text, text, text);
    fc.assert(
      fc.property(fc.array(requests, { maxLength: 3 }), (all) => {
        for (const [events, apiKey, ip, userAgent] of all) {
          for (const each of events.map((one) => ({ ...one, apiKey, ip, userAgent }))) {
            expect(Buffer.from(encode(each)).equals(encodeRecordPlain(each))).toBe(true);
          }
        }
      }),
    );
  });

  it("gives back every field, unpaired surrogates as U+FFFD", () => {
    const encode = createRecordEncoder();
    fc.assert(
      fc.property(event, (each) => {
        const { $typeName, $unknown, origin, ...decoded } = decodeRecord(encode(each));
        const wellFormed = Object.entries(each).map(([k, v]) => [k, typeof v === "string" ? v.toWellFormed() : v]);
        expect({
          ...decoded,
          id: [...decoded.id],
          timeUs: Number(decoded.timeUs),
          receivedUs: Number(decoded.receivedUs),
          propertiesJson: Buffer.from(decoded.propertiesJson).toString(),
        }).toEqual({ ...Object.fromEntries(wellFormed), id: [...each.id] });
      }),
    );
  });

  it("never writes again into bytes it has handed out", () => {
    const encode = createRecordEncoder();
    const first = encode(SAMPLE);
    const copy = Buffer.from(first);
    for (let i = 0; i < 2000; i++) encode({ ...SAMPLE, event: "z".repeat(300) });
    expect(Buffer.from(first).equals(copy)).toBe(true);
  });

  it("takes a record larger than its slab", () => {
    const large = { ...SAMPLE, propertiesJson: `{"a":"${"x".repeat(900_000)}"}` };
    const bytes = createRecordEncoder()(large);
    expect(decodeRecord(bytes).propertiesJson.length).toBe(large.propertiesJson.length);
  });
});

describe("decoding", () => {
  function withProperties(json: string | Uint8Array): Uint8Array {
    const record = decodeRecord(encodeRecordPlain(SAMPLE));
    return toBinary(EventRecordSchema, { ...record, propertiesJson: Buffer.from(json as string) });
  }

  it.each([
    ["an empty object", "{}"],
    ["braces in a string", '{"a":"}{]["}'],
    ["an escaped quote before a brace", '{"a":"\\"}"}'],
    ["an escaped backslash before the quote", '{"a":"\\\\"}'],
    ["nested objects and arrays", '{"a":[{"b":[[]]},{}]}'],
    ["a line break as an escape", '{"a":"\\n"}'],
    ["U+2028", '{"a":"\u2028"}'],
    ["line breaks and tabs between tokens", '{\r\n\t"a":\n1\n}'],
  ])("takes properties with %s", (_case, json) => {
    expect(Buffer.from(decodeRecord(withProperties(json)).propertiesJson).toString()).toBe(json);
  });

  it.each([
    ["nothing", ""],
    ["an array", "[]"],
    ["a string", '"{}"'],
    ["an object that ends early", '{},"x":{}'],
    ["two objects", "{}{}"],
    ["bytes after the object", "{} "],
    ["bytes before the object", " {}"],
    ["an object that does not end", '{"a":1'],
    ["a string that does not end", '{"a":"}'],
    ["a string whose last quote is escaped", '{"a":"\\"}'],
    ["a closing bracket that opens nothing", '{"a":1],"b":2}'],
    ["a bracket in place of the brace", '{"a":1]'],
    ["another control character between tokens", '{"a":\f1}'],
    ["NUL between tokens", '{"a":\u00001}'],
    ["a line break within a string", '{"a":"\n"}'],
    ["a carriage return within a string", '{"a":"\r"}'],
    ["a line break behind a backslash", '{"a":"\\\n"}'],
    ["NUL behind a backslash", '{"a":"\\\u0000"}'],
  ])("refuses properties with %s", (_case, json) => {
    expect(() => decodeRecord(withProperties(json))).toThrow(PoisonRecordError);
  });

  it("takes whatever JSON.stringify makes of an object, and refuses it cut anywhere or with a byte more", () => {
    const object = fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue(), { maxKeys: 5 });
    fc.assert(
      fc.property(object, fc.nat(), (value, cut) => {
        const json = Buffer.from(JSON.stringify(value));
        expect(decodeRecord(withProperties(json)).propertiesJson.length).toBe(json.length);
        expect(() => decodeRecord(withProperties(json.subarray(0, cut % json.length)))).toThrow(PoisonRecordError);
        expect(() => decodeRecord(withProperties(Buffer.concat([json, Buffer.from("}")])))).toThrow(PoisonRecordError);
      }),
    );
  });

  it("answers arbitrary bytes with a record or PoisonRecordError, nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeRecord(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(PoisonRecordError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ["an id of 15 bytes", { id: new Uint8Array(15) }],
    ["no id", { id: new Uint8Array(0) }],
    ["NaN as value", { value: Number.NaN }],
    ["Infinity as value", { value: Number.POSITIVE_INFINITY }],
    ["a time before 1970", { timeUs: -1n }],
    ["a time that no Date holds", { timeUs: 2n ** 62n }],
    ["a receive time after 2299", { receivedUs: 10_413_792_000_000_000n }],
  ])("refuses %s", (_case, change) => {
    const record = decodeRecord(encodeRecordPlain(SAMPLE));
    expect(() => decodeRecord(toBinary(EventRecordSchema, { ...record, ...change }))).toThrow(PoisonRecordError);
  });

  it("keeps a field that only a later version knows from being an error", () => {
    const bytes = Buffer.concat([encodeRecordPlain(SAMPLE), Buffer.from([0xc0, 0x3e, 0x01])]);
    expect(decodeRecord(bytes).event).toBe(SAMPLE.event.toWellFormed());
  });
});
