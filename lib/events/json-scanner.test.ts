import { isUtf8 } from "node:buffer";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JSON_CASES } from "../../test/kit/json-texts.ts";
import { firstNotUtf8 } from "./json-bytes.ts";
import { type JsonCursor, type JsonText, textOf } from "./json-cursor.ts";
import { JsonFault } from "./json-fault.ts";
import { JsonNames } from "./json-keys.ts";
import { createPlainCursor } from "./json-plain.ts";
import { createJsonScanner } from "./json-scanner.ts";

const NONE = new JsonNames([]);
const scanner = createJsonScanner();
const plain = createPlainCursor();

/** The value's text, or why there is none. */
function readBy(cursor: JsonCursor, bytes: Uint8Array): JsonText | string {
  try {
    cursor.open(bytes);
    const root = cursor.position();
    const text = cursor.slice();
    cursor.close();
    const fault = cursor.takeFault(root);
    return fault ? `${fault.field} ${fault.message}` : text;
  } catch (error) {
    if (error instanceof JsonFault) return error.message;
    throw error;
  }
}

/** The same by the calls of a reader who wants every member. */
function walkBy(cursor: JsonCursor, bytes: Uint8Array): unknown {
  cursor.open(bytes);
  const value = valueBy(cursor);
  cursor.close();
  return value;
}

function valueBy(cursor: JsonCursor): unknown {
  const kind = cursor.kind();
  if (kind === "string") return cursor.text();
  if (kind === "array") {
    const items: unknown[] = [];
    cursor.enter();
    while (cursor.nextItem()) items.push(valueBy(cursor));
    return items;
  }
  if (kind !== "object") return JSON.parse(textOf(cursor.slice())) as unknown;
  const members = new Map<string, unknown>();
  cursor.enter();
  while (cursor.nextMember(NONE)) members.set(cursor.key(), valueBy(cursor));
  return Object.fromEntries(members);
}

function parse(bytes: Uint8Array): { value: unknown } | undefined {
  if (!isUtf8(bytes)) return undefined;
  try {
    return { value: JSON.parse(Buffer.from(bytes).toString()) as unknown };
  } catch {
    // JSON.parse throws for what is no JSON, which is what is asked.
    return undefined;
  }
}

describe("the table of JSON texts", () => {
  it("has at least 300 of them, each once", () => {
    const texts = new Set(JSON_CASES.map(({ bytes }) => bytes.toString("latin1")));
    expect(texts.size).toBeGreaterThan(300);
  });

  it.each(JSON_CASES)("$verdict: $name", ({ bytes, verdict }) => {
    const strict = parse(bytes);
    if (verdict === "accepted") expect(strict).toBeDefined();
    if (verdict === "refused") expect(strict).toBeUndefined();
    const text = readBy(scanner, bytes);
    if (verdict === "refused") expect(text).toMatch(/^is not JSON: .* at byte \d+/s);
    if (verdict === "accepted") expect(typeof text === "string" ? text : textOf(text)).toBe(bytes.toString().trim());
    if (typeof text !== "string") expect(walkBy(scanner, bytes)).toEqual(strict?.value);
    // Whatever follows a fault, the next text is read as if nothing had been.
    expect(readBy(scanner, Buffer.from("[1]"))).toMatchObject({ from: 0, to: 3 });
  });

  it("has the same verdicts within an object, and plainly", () => {
    for (const { name, bytes, verdict } of JSON_CASES) {
      const within = Buffer.concat([Buffer.from('{"a":'), bytes, Buffer.from(',"b":[0]}')]);
      const text = readBy(scanner, within);
      if (verdict === "either") continue;
      expect([name, typeof text === "string" ? "refused" : textOf(text)]).toEqual([
        name,
        verdict === "accepted" ? within.toString() : "refused",
      ]);
      expect([name, parse(within) !== undefined]).toEqual([name, verdict === "accepted"]);
      expect([name, typeof readBy(plain, bytes)]).toEqual([name, verdict === "accepted" ? "object" : "string"]);
    }
  });
});

/** JSON texts, also spelled as few libraries would: white space, escapes, numbers of any form. */
const space = fc.constantFrom("", "", "", " ", "\n", "\t", "\r\n");
const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((each) => JSON.stringify(each)),
  fc.stringMatching(/^-?(0|[1-9]\d{0,24})(\.\d{1,9})?([eE][+-]?\d{1,3})?$/),
);
const parts = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }).map((each) => JSON.stringify(each).slice(1, -1)),
      fc.constantFrom("\\u0041", "\\/", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\\\", "é", "😀", "a", "\\u000a"),
    ),
    { maxLength: 6 },
  )
  .map((all) => all.join(""));
const string = parts.map((text) => `"${text}"`);
/** Without a backslash of their own: after one, V8's JSON.parse misreads keys (see the test of it). */
const key = parts.filter((text) => !text.includes("\\\\") && !/\\u005c/i.test(text)).map((text) => `"${text}"`);
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.oneof(number, string, fc.constantFrom("true", "false", "null")),
    fc
      .array(
        fc.tuple(space, tie("json"), space).map((all) => all.join("")),
        { maxLength: 5 },
      )
      .map((all) => `[${all.join(",")}]`),
    fc
      .array(
        fc.tuple(space, key, space, fc.constant(":"), space, tie("json"), space).map((all) => all.join("")),
        { maxLength: 5 },
      )
      .map((all) => `{${all.join(",")}}`),
  ),
}));

// V8 guesses a key from the object read before it, and compares the guess with the key's bytes as they are: the key "\\"
// matches the first byte of the key "\\u0041", so that JSON.parse makes one of two objects with different keys.
describe("a key that is a backslash", () => {
  it.each([
    [String.raw`[{"a":1,"\\":2},{"a":1,"\u0041":2}]`, ["a", "A"]],
    [String.raw`[{"":"","\\":""},{"":"","\u0041":""}]`, ["", "A"]],
    [String.raw`[{"a":1,"\\u":2},{"a":1,"\u0041b":2}]`, ["a", "Ab"]],
    [String.raw`[{"x":{"\\":1}},{"x":{"\n":1}}]`, ["x"]],
  ])("does not change the keys of the objects after it: %s", (text, keys) => {
    const [, second] = walkBy(scanner, Buffer.from(text)) as [unknown, Record<string, unknown>];
    expect(Object.keys(second)).toEqual(keys);
    expect(textOf(readBy(scanner, Buffer.from(text)) as JsonText)).toBe(text);
  });
});

/** In a realm of its own, where V8 has read no object yet that it could guess keys from. */
function parsedAfresh(text: string): unknown {
  return runInNewContext("JSON.parse(text)", { text });
}

describe("for any text", () => {
  it("both ways to read give the same members, or both refuse", () => {
    fc.assert(
      fc.property(json, (text) => {
        const bytes = Buffer.from(text);
        const read = readBy(scanner, bytes);
        expect(parse(bytes)).toBeDefined();
        if (typeof read === "string") {
          expect(read).toContain("twice");
          return;
        }
        const value = walkBy(scanner, bytes);
        const parsed = parsedAfresh(text);
        expect(value).toEqual(parsed);
        // Where JSON.parse misreads a key, the way by it does.
        const isGuessed = JSON.stringify(JSON.parse(text)) !== JSON.stringify(parsed);
        if (!isGuessed) expect(walkBy(plain, bytes)).toEqual(value);
        if (!/\\u[dD][89a-fA-F]/.test(text)) expect(textOf(read)).toBe(text);
        expect(JSON.stringify(JSON.parse(textOf(read))).isWellFormed()).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it("with one byte changed, put in or taken out, the verdict is that of JSON.parse", () => {
    const change = fc.record({
      at: fc.nat(),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('"\\{}[],:0-.eE+ \nu'))),
      how: fc.constantFrom("change", "insert", "remove"),
    });
    fc.assert(
      fc.property(json, change, (text, { at, byte, how }) => {
        const bytes = [...Buffer.from(text)];
        const place = at % bytes.length;
        bytes.splice(place, how === "insert" ? 0 : 1, ...(how === "remove" ? [] : [byte]));
        const changed = Buffer.from(bytes);
        const read = readBy(scanner, changed);
        const isTaken = typeof read !== "string" || /twice|1000 keys/.test(read);
        expect([changed.toString("latin1"), isTaken]).toEqual([
          changed.toString("latin1"),
          parse(changed) !== undefined,
        ]);
      }),
      { numRuns: 1000 },
    );
  });

  it("a piece of other bytes is read as if it were alone", () => {
    fc.assert(
      fc.property(json, fc.uint8Array(), fc.uint8Array(), (text, before, after) => {
        const bytes = Buffer.concat([before, Buffer.from(text), after]);
        scanner.open(bytes, before.length, bytes.length - after.length);
        scanner.skip();
        scanner.close();
      }),
    );
  });

  it("the first byte that is not UTF-8 is where a fault is told", () => {
    const bytes = fc.array(fc.oneof(fc.nat(255), fc.constantFrom(0xe0, 0xed, 0xf0, 0xf4, 0x80, 0x9f, 0xa0, 0xbf)), {
      maxLength: 8,
    });
    fc.assert(
      fc.property(bytes, (list) => {
        const text = Buffer.from(list);
        const at = firstNotUtf8(text);
        expect(at === text.length).toBe(isUtf8(text));
        expect(isUtf8(text.subarray(0, at))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });
});
