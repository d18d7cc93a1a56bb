// What breaks a rule and is JSON all the same: it is told with its place, and what follows can still be read.
import { describe, expect, it } from "vitest";
import { type JsonBounds, textOf } from "./json-cursor.ts";
import { JsonFault } from "./json-fault.ts";
import { JsonNames } from "./json-keys.ts";
import { createPlainCursor } from "./json-plain.ts";
import { createJsonScanner } from "./json-scanner.ts";
import type { RuleFault } from "./rule-fault.ts";

const BOUNDS = { keys: 5, levels: 3, passNaN: true };
const NAMES = new JsonNames(["a", "é", "$set", "constructor", "__proto__"]);
const scanner = createJsonScanner();

/** The faults of each item of an array. */
function faultsOf(items: readonly string[], bounds: JsonBounds = BOUNDS, cursor = scanner): (RuleFault | undefined)[] {
  cursor.open(Buffer.from(`[${items.join(",")}]`));
  cursor.kind();
  cursor.enter();
  const faults: (RuleFault | undefined)[] = [];
  while (cursor.nextItem()) {
    const root = cursor.position();
    cursor.beginBounds(bounds);
    cursor.skip();
    cursor.endBounds();
    faults.push(cursor.takeFault(root));
  }
  cursor.close();
  return faults;
}

const faultOf = (text: string) => faultsOf([text, "{}"])[0];
const members = (count: number) => Array.from({ length: count }, (_, i) => `"k${i}":${i}`).join(",");

describe("one value's fault is not its neighbour's", () => {
  it.each([
    ["more keys than allowed", `{${members(6)}}`, { fault: "too_complex", field: "" }],
    ["more keys on several levels", '{"a":{"b":1,"c":2},"d":[{"e":1,"f":2}]}', { fault: "too_complex", field: "" }],
    ["more levels than allowed", '{"a":[{"b":{}}]}', { fault: "too_complex", field: "a.0.b" }],
    ["a key twice", '{"a":1,"b":{"c":1,"c":2}}', { fault: "invalid", field: "b.c" }],
    ["a key twice, once in escapes", '{"a":1,"\\u0061":2}', { fault: "invalid", field: "a" }],
    ["a key twice, both in escapes", '{"\\u00e9":1,"\\u00E9":2}', { fault: "invalid", field: "é" }],
    ["a key twice, a pair and its character", '{"😀":1,"\\ud83d\\ude00":2}', { fault: "invalid", field: "😀" }],
    ["NaN", '{"a":[1,NaN]}', { fault: "invalid", field: "a.1" }],
    ["Infinity", '{"a":Infinity}', { fault: "invalid", field: "a" }],
    ["-Infinity", "-Infinity", { fault: "invalid", field: "" }],
  ])("%s", (_case, bad, expected) => {
    const faults = faultsOf(['{"a":1}', bad, '{"a":2}', bad]);
    expect(faults.map((each) => each !== undefined)).toEqual([false, true, false, true]);
    expect(faults[1]).toMatchObject(expected);
  });

  it.each([
    ["as many keys as allowed", `{${members(5)}}`],
    ["as many levels as allowed", '{"a":[{}]}'],
    ["a key of two objects", '{"a":{"a":{"a":1}}}'],
    ["a key of neighbours", '[{"a":1},{"a":2}]'],
    ["a key that another begins with", '{"a":1,"aa":2,"":3}'],
    ["one key in two forms of Unicode", '{"é":1,"e\u0301":2}'],
    ["an escape that is text elsewhere", '{"a":1,"\\\\u0061":2}'],
  ])("%s is not a duplicate key", (_case, text) => {
    expect(faultOf(text)).toBeUndefined();
  });

  it("names the byte at which the second key stands", () => {
    expect(faultOf('{"a":1,"a":2}')?.message).toContain("again at byte 8;");
  });

  it("bounds within bounds count for themselves", () => {
    scanner.open(Buffer.from('{"a":{"b":{"c":{"d":1}}},"e":1,"f":1}'));
    scanner.beginBounds({ keys: 3, levels: 1 });
    scanner.enter();
    scanner.nextMember(NAMES);
    scanner.beginBounds({ keys: 3, levels: 3 });
    scanner.skip();
    scanner.endBounds();
    while (scanner.nextMember(NAMES)) scanner.skip();
    expect(scanner.takeFault(0)).toBeUndefined();
  });

  it("is told in the same words plainly", () => {
    for (const text of [`{${members(6)}}`, '{"a":[{"b":{}}]}', '{"a":{"b":1,"c":2},"d":[{"e":1,"f":2}]}']) {
      const [scanned] = faultsOf([text]);
      const [plainly] = faultsOf([text], BOUNDS, createPlainCursor());
      expect([plainly?.fault, plainly?.message]).toEqual([scanned?.fault, scanned?.message]);
    }
  });
});

describe("a fault of the text", () => {
  const messageOf = (text: string | Uint8Array) => {
    try {
      scanner.open(Buffer.from(text as string));
      scanner.skip();
      scanner.close();
      return undefined;
    } catch (error) {
      expect(error).toBeInstanceOf(JsonFault);
      return (error as Error).message;
    }
  };

  it.each([
    ['{"a":1 "b":2}', 'is not JSON: "\\"" where a comma or "}" should be at byte 7'],
    ['{"a":tru}', 'is not JSON: "t" where a value should be at byte 5'],
    ["[1,", "is not JSON: the text ends where a value should be, at byte 3"],
    ['"a', "is not JSON: the text ends where the quote that ends a string should be, at byte 2"],
    ['"a\nb"', "is not JSON: the control character U+000A stands unescaped in a string at byte 2"],
    ['"\\x"', 'is not JSON: "x" where one of "\\/bfnrtu after a backslash should be at byte 2'],
    ["{} {}", 'is not JSON: "{" where the end should be at byte 3'],
    ["\ufeff1", "is not JSON: there is a byte order mark at byte 0"],
    ["NaN", "is not JSON: NaN is no number of JSON, which has finite ones only, at byte 0"],
    ["日", 'is not JSON: "日" where a value should be at byte 0'],
    [Buffer.from([0x22, 0x41, 0xff, 0x22]), "is not JSON: the bytes are not UTF-8 at byte 2"],
  ])("%s", (text, message) => {
    expect(messageOf(text)).toBe(message);
  });
});

describe("names", () => {
  const found = (text: string) => {
    const names: [number, string, string][] = [];
    scanner.open(Buffer.from(text));
    scanner.enter();
    while (scanner.nextMember(NAMES)) names.push([scanner.name, scanner.key(), textOf(scanner.slice())]);
    return names;
  };

  it("are known by their bytes, escapes or not", () => {
    expect(found('{"a":1,"\\u0024set":{},"é":2,"b":3,"\\u00e9x":4,"__proto__":5,"constructor":6}')).toEqual([
      [0, "a", "1"],
      [2, "$set", "{}"],
      [1, "é", "2"],
      [-1, "b", "3"],
      [-1, "éx", "4"],
      [4, "__proto__", "5"],
      [3, "constructor", "6"],
    ]);
  });
});

describe("hostile texts take time in proportion to their bytes", () => {
  const texts: Record<string, (n: number) => string> = {
    arrays: (n) => "[".repeat(n) + "]".repeat(n),
    "arrays without an end": (n) => "[".repeat(n),
    objects: (n) => `${'{"a":'.repeat(n / 6)}1${"}".repeat(n / 6)}`,
    "different keys": (n) => `{${Array.from({ length: n / 12 }, (_, i) => `"key_${i}":1`).join(",")}}`,
    "the same key": (n) =>
      `{${Array(Math.floor(n / 6))
        .fill('"a":1')
        .join(",")}}`,
    "the same key in escapes": (n) =>
      `{${Array(Math.floor(n / 12))
        .fill('"\\u0061":1')
        .join(",")}}`,
    "objects of a thousand keys": (n) =>
      `[${Array(Math.ceil(n / 10_000))
        .fill(`{${members(1000)}}`)
        .join(",")}]`,
    "a string": (n) => `"${"x".repeat(n)}"`,
    escapes: (n) => `"${"\\".repeat(2 * Math.floor(n / 2))}"`,
    "half pairs": (n) => `"${"\\ud800".repeat(n / 6)}"`,
    "a number": (n) => "1".repeat(n),
    "white space": (n) => `${" ".repeat(n)}1`,
    "characters of four bytes": (n) => `"${"😀".repeat(n / 4)}"`,
  };
  const secondsOf = (bytes: Buffer) => {
    const begun = process.threadCpuUsage();
    try {
      scanner.open(bytes);
      scanner.beginBounds({ keys: 1000, levels: 32 });
      scanner.slice();
      scanner.endBounds();
      scanner.takeFault(0);
    } catch (error) {
      if (!(error instanceof JsonFault)) throw error;
    }
    const { user, system } = process.threadCpuUsage(begun);
    return (user + system) / 1e6;
  };

  it.each(Object.keys(texts))("%s", (name) => {
    const [small, large] = [125_000, 1_000_000].map((n) => Buffer.from((texts[name] as (n: number) => string)(n)));
    const best = (bytes: Buffer) => Math.min(...Array.from({ length: 5 }, () => secondsOf(bytes)));
    best(small as Buffer);
    // Eight times the bytes: quadratic would be 64 times as long.
    expect(best(large as Buffer)).toBeLessThan(24 * best(small as Buffer) + 0.05);
  });

  it("a million levels are read, more are refused, and neither is kept", () => {
    const levels = 1_000_000;
    expect(faultsOf(["[".repeat(levels - 1) + "]".repeat(levels - 1)])[0]).toMatchObject({ fault: "too_complex" });
    scanner.open(Buffer.from("[".repeat(5 * levels)));
    expect(() => scanner.skip()).toThrow("levels");
    expect(faultOf("{}")).toBeUndefined();
  });
});
