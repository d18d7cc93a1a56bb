import fc from "fast-check";
import { expect, it } from "vitest";
import { anyLogEvent } from "../../test/kit/event-arbitrary.ts";
import { createRecordEncoder, decodeRecord, type LogEvent, PoisonRecordError } from "./record.ts";
import { isOneObject } from "./record-json.ts";
import { createRecordScanner } from "./record-scanner.ts";
import { createEventRows } from "./row.ts";
import { createRowWriter } from "./row-writer.ts";

const ORIGIN = { epoch: 'e"poch', topic: "millrace.events", partition: 7 };
const text = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 60 }),
  fc.constantFrom("", 'a"b', "back\\slash", "line\nbreak\r\t\u0000\u001f", "\u2028é日本語😀", "x".repeat(300)),
);
const event = anyLogEvent(text, {
  timeUs: fc.integer({ min: 0, max: 4_000_000_000_000_000 }),
  propertiesJson: fc.dictionary(fc.string(), fc.jsonValue()).map((object) => JSON.stringify(object)),
});

it("writes the values that the plain path writes, and reads the same flags", () => {
  const encode = createRecordEncoder();
  const scanner = createRecordScanner();
  const plain = createEventRows(ORIGIN);
  fc.assert(
    fc.property(fc.array(event, { minLength: 1, maxLength: 5 }), fc.nat(2 ** 31), (events, offset) => {
      const writer = createRowWriter(ORIGIN);
      writer.begin(10);
      let expected = "";
      for (const one of events) {
        const bytes = encode(one);
        scanner.scan(bytes);
        expect([scanner.idFromCaller, scanner.checkStored, scanner.trusted]).toEqual([
          one.idFromCaller,
          one.checkStored,
          one.trusted,
        ]);
        writer.add(scanner, offset, 1_800_000_000_123);
        expected += Buffer.from(plain.row(decodeRecord(bytes), offset, 1_800_000_000_123)).toString();
      }
      // Escapes may be spelled differently ("\n" and "\u000a"); what they say may not.
      expect(rowsOf(Buffer.from(writer.take()).toString())).toEqual(rowsOf(expected));
    }),
  );
});

function rowsOf(text: string): unknown[] {
  expect(text.endsWith("]\n")).toBe(true);
  return text
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
}

it("calls poison what the plain path calls poison, for bytes of any kind", () => {
  const encode = createRecordEncoder();
  const scanner = createRecordScanner();
  const verdict = (read: () => void): "poison" | "fine" => {
    try {
      read();
      return "fine";
    } catch (error) {
      expect(error).toBeInstanceOf(PoisonRecordError);
      return "poison";
    }
  };
  const damaged = fc.tuple(event, fc.nat(), fc.nat(255), fc.nat(3)).map(([one, at, byte, cut]) => {
    const bytes = Buffer.from(encode(one));
    bytes[at % bytes.length] = byte;
    return bytes.subarray(0, bytes.length - cut);
  });
  let poisoned = 0;
  fc.assert(
    fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 80 })), (bytes) => {
      const plain = verdict(() => decodeRecord(bytes));
      const writer = createRowWriter(ORIGIN);
      writer.begin(10);
      const ours = verdict(() => {
        scanner.scan(bytes);
        writer.add(scanner, 1, 1);
      });
      if (ours === "poison") {
        poisoned++;
        expect(writer.take()).toHaveLength(0);
      } else {
        rowsOfSafe(Buffer.from(writer.take()));
      }
      // Stricter than the plain path is allowed (a known field of the wrong wire type), laxer is not.
      if (plain === "poison") expect(ours).toBe("poison");
    }),
    { numRuns: 2000 },
  );
  expect(poisoned).toBeGreaterThan(100);
});

/** One array that ends with the row: whatever the bytes were, they have not broken out of it. */
function rowsOfSafe(bytes: Buffer): void {
  const within = Buffer.concat([Buffer.from('{"row":'), bytes.subarray(0, -1), Buffer.from("}")]);
  expect(isOneObject(within, 0, within.length)).toBe(true);
  expect([bytes.subarray(0, 2).toString(), bytes.subarray(-2).toString()]).toEqual(['["', "]\n"]);
}

it("refuses a field that is not UTF-8, with nothing of the row left behind", () => {
  const bytes = Buffer.from(
    createRecordEncoder()({
      ...(fc.sample(event, { numRuns: 1, seed: 1 })[0] as LogEvent),
      event: "abcé",
      propertiesJson: "{}",
    }),
  );
  bytes[bytes.indexOf("é")] = 0xff;
  const scanner = createRecordScanner();
  const writer = createRowWriter(ORIGIN);
  writer.begin(10);
  scanner.scan(bytes);
  expect(() => writer.add(scanner, 1, 1)).toThrow(PoisonRecordError);
  expect(writer.take()).toHaveLength(0);
});
