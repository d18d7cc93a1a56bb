import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "./limits.ts";
import { type CheckedProperties, createPropertiesReader, type PropertiesInput } from "./properties.ts";
import { isOneObject } from "./record-json.ts";
import type { RuleFault } from "./rule-fault.ts";

const reader = createPropertiesReader();

function check(input: PropertiesInput): CheckedProperties | RuleFault {
  return reader.check(input, "properties", DEFAULT_LIMITS);
}

function jsonOf(input: PropertiesInput): string {
  const checked = check(input);
  if ("fault" in checked) throw new Error(`${checked.field} ${checked.message}`);
  return checked.text();
}

function nested(levels: number): Record<string, unknown> {
  return levels === 1 ? {} : { a: nested(levels - 1) };
}

const withKeys = (keys: number) => Object.fromEntries(Array.from({ length: keys }, (_, i) => [`k${i}`, i]));
const both = [
  ["as an object", (object: Record<string, unknown>) => object],
  ["as JSON text", (object: Record<string, unknown>) => JSON.stringify(object)],
] as const;

describe.each(both)("properties %s", (_form, given) => {
  it.each([999, 1000])("may have %d keys", (keys) => {
    expect(check(given(withKeys(keys)))).not.toHaveProperty("fault");
  });

  it("may not have 1001 keys, on one level or on several", () => {
    expect(check(given(withKeys(1001)))).toMatchObject({ fault: "too_complex", field: "properties" });
    expect(check(given({ a: withKeys(500), b: [withKeys(499)] }))).toMatchObject({ fault: "too_complex" });
    expect(check(given({ a: withKeys(500), b: [withKeys(498)] }))).not.toHaveProperty("fault");
  });

  it.each([31, 32])("may be %d levels deep", (levels) => {
    expect(check(given(nested(levels)))).not.toHaveProperty("fault");
  });

  it.each([
    ["objects", nested(33)],
    ["arrays", { a: JSON.parse("[".repeat(32) + "]".repeat(32)) as unknown }],
    ["many more objects", nested(300)],
  ])("may not be deeper than 32 levels of %s", (_kind, object) => {
    const fault = check(given(object));
    expect(fault).toMatchObject({ fault: "too_complex", field: expect.stringMatching(/^properties\.a/) as string });
    expect((fault as RuleFault).field.length).toBeLessThan(200);
  });

  it("may have arrays to level 32", () => {
    const object = { a: JSON.parse("[".repeat(31) + "]".repeat(31)) as unknown };
    expect(check(given(object))).not.toHaveProperty("fault");
  });
});

describe("properties", () => {
  it("keep the text they came in", () => {
    for (const json of ['{ "a" : 1.0 }', '{"a":12345678901234567890}', '{\n"a":\t1.10,\r\n"b":[-0,1e400]}', "{}"]) {
      expect(jsonOf(json)).toBe(json);
    }
  });

  it("are an empty object when absent or empty", () => {
    expect(jsonOf(undefined)).toBe("{}");
    expect(jsonOf("")).toBe("{}");
  });

  it.each([
    ["[]", "an array"],
    ["1", "a number"],
    ['"a"', "a string"],
    ["null", "null"],
    ["true", "a boolean"],
  ])("may not be %s", (json, what) => {
    expect(check(json)).toMatchObject({
      fault: "invalid",
      field: "properties",
      message: expect.stringContaining(what),
    });
  });

  it.each(["{", "{} {}", "{}x", "{'a':1}", '{"a":NaN}', '{"a":undefined}', '{"a":01}', "\ufeff{}", '{"a":"\n"}'])(
    "may not be the broken text %j",
    (json) => {
      expect(check(json)).toMatchObject({ fault: "invalid", field: "properties" });
    },
  );

  it("may have a key once in each object, however it is spelled", () => {
    expect(check('{"a":1,"a":2}')).toMatchObject({ fault: "invalid", field: "properties.a" });
    expect(check('{"b":[{"a":1,"\\u0061":2}]}')).toMatchObject({ fault: "invalid", field: "properties.b.0.a" });
  });

  it("take __proto__ for the plain key it is, and change no prototype by it", () => {
    for (const json of ['{"__proto__":{"polluted":1}}', '{"a":[{"__proto__":1}]}', '{"\\u005f_proto__":1}']) {
      expect(jsonOf(json)).toBe(json);
    }
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("take constructor and prototype for the plain keys they are", () => {
    expect(jsonOf('{"constructor":{"prototype":1},"toString":2}')).toBe('{"constructor":{"prototype":1},"toString":2}');
  });

  it.each([
    [{ a: Number.NaN }, "properties.a"],
    [{ a: { b: Number.POSITIVE_INFINITY } }, "properties.a.b"],
    [{ a: [1, Number.NEGATIVE_INFINITY] }, "properties.a.1"],
  ])("may not hold numbers that JSON has not: %j", (object, field) => {
    expect(check(object)).toMatchObject({ fault: "invalid", field });
  });

  it("are refused unread when the text is larger than an event may be", () => {
    const json = `{"a":"${"x".repeat(DEFAULT_LIMITS.eventBytes)}"}`;
    expect(check(json)).toMatchObject({ fault: "too_large", field: "properties" });
  });

  it("name a hostile key within bounds and on one line", () => {
    const fault = check({ [`a\n\u0000${"k".repeat(10_000)}`]: Number.NaN }) as RuleFault;
    expect(fault.field).toMatch(/^properties\.a\?\?k{37}…$/);
  });

  it.each([' {"a":1}', '{"a":1} ', '\t{"a":1}\r\n'])("are without the white space around them: %j", (text) => {
    expect(jsonOf(text)).toBe('{"a":1}');
  });

  it("are one object for the consumer, whatever white space is between the tokens", () => {
    const json = Buffer.from(jsonOf('{\r\n\t"a" : [\n1 ]\n}'));
    expect(isOneObject(json, 0, json.length)).toBe(true);
  });

  it.each([
    ["an escaped pair is kept", '{"a":"\\ud83d\\ude00"}', '{"a":"\\ud83d\\ude00"}'],
    ["a pair beside a half", '{"a":"\\ud83d\\ude00\\ud83d"}', '{"a":"\\ud83d\\ude00\ufffd"}'],
    ["digits beside a half", '{"a":"\\ud83d","b": 1.10}', '{"a":"\ufffd","b": 1.10}'],
    ["a lone high half becomes U+FFFD", '{"a":"\\ud83dx"}', '{"a":"\ufffdx"}'],
    ["a lone low half becomes U+FFFD", '{"a":"\\uDE00"}', '{"a":"\ufffd"}'],
    ["halves in the wrong order become two", '{"a":"\\ude00\\ud83d"}', '{"a":"\ufffd\ufffd"}'],
    ["a lone half in a key becomes U+FFFD", '{"\\ud800":1}', '{"\ufffd":1}'],
    ["an escaped backslash before u is text", '{"a":"\\\\ud83d"}', '{"a":"\\\\ud83d"}'],
    ["text and lone half side by side", '{"a":"\\\\\\ud83d"}', '{"a":"\\\\\ufffd"}'],
  ])("surrogates: %s", (_case, json, expected) => {
    expect(jsonOf(json)).toBe(expected);
  });

  it("are JSON that UTF-8 keeps and that means what was sent", () => {
    const unit = fc.oneof(
      fc.integer({ min: 0, max: 0xffff }).map((each) => String.fromCharCode(each)),
      fc.constantFrom("\\", "u", "d", "8", "0", '"', "\n", "\ud83d", "\ude00"),
    );
    const object = fc.dictionary(
      fc.string({ unit }).filter((key) => key !== "__proto__"),
      fc.oneof(fc.string({ unit }), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean()),
      { maxKeys: 8 },
    );
    const wellFormed = (value: unknown) => (typeof value === "string" ? value.toWellFormed() : value);
    fc.assert(
      fc.property(object, fc.constantFrom(0, 1), (sent, indent) => {
        // Two keys that are one once their halves are U+FFFD are a key sent twice, which is refused.
        fc.pre(new Set(Object.keys(sent).map((key) => key.toWellFormed())).size === Object.keys(sent).length);
        const expected = Object.fromEntries(Object.entries(sent).map(([k, v]) => [k.toWellFormed(), wellFormed(v)]));
        for (const input of [sent, JSON.stringify(sent, null, indent)]) {
          const json = jsonOf(input);
          expect(JSON.stringify(JSON.parse(Buffer.from(json).toString()))).toBe(JSON.stringify(expected));
        }
      }),
    );
  });
});
