import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Added, type AddedName, addedKey, withAdded } from "./added-properties.ts";
import { withMembers } from "./json-members.ts";
import { createJsonScanner } from "./json-scanner.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { CheckedProperties, createPropertiesReader } from "./properties.ts";

const reader = createPropertiesReader();
const cursor = createJsonScanner();

function textOf(value: unknown) {
  const bytes = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  return { bytes, from: 0, to: bytes.length };
}

function read(json: unknown, at = cursor): CheckedProperties {
  const { bytes } = textOf(json);
  at.open(bytes);
  return reader.atCursor(at, DEFAULT_LIMITS, true);
}

const added = (name: AddedName, value: unknown): Added => ({
  key: addedKey(name),
  value: textOf(JSON.stringify(value)),
});
const LIFTED: AddedName[] = ["$current_url", "$host", "$session_id", "$anon_distinct_id", "$device_id"];
const names = fc.constantFrom<AddedName>(...LIFTED, "$lib", "name", "context", "$set", "utm_source");
const additions = fc.uniqueArray(fc.tuple(names, fc.oneof(fc.string(), fc.constant("  "))), {
  selector: ([name]) => name,
  maxLength: 6,
});
const keys = fc.oneof(fc.string(), names, fc.constantFrom("session_id", "host", "$window_id", "distinct_id"));

describe("properties that a wire adds", () => {
  it("are what they would be if all were read again, whatever the caller's own are", () => {
    fc.assert(
      fc.property(
        fc.dictionary(keys, fc.oneof(fc.string(), fc.integer(), fc.constant(null))),
        additions,
        (own, more) => {
          const found = reader.check(
            withAdded(
              read(own),
              more.map(([name, value]) => added(name, value)),
              cursor,
              DEFAULT_LIMITS,
            ),
            "properties",
            DEFAULT_LIMITS,
          ) as CheckedProperties;
          const members = more.map(([name, value]) => ({
            key: textOf(JSON.stringify(name)),
            value: textOf(JSON.stringify(value)),
          }));
          const joined = withMembers(read(own).json, members, cursor, new Set(["$set"]));
          const plain = read(joined.bytes.toString("utf8", joined.from, joined.to));
          expect([found.text(), found.lifted]).toEqual([plain.text(), plain.lifted]);
        },
      ),
    );
  });

  it("are not read again where the caller has none of their names", () => {
    const own = read('{ "a" : 1.0 }');
    const found = withAdded(own, [added("$lib", "x"), added("$host", "h"), added("$lib", "y")], cursor, DEFAULT_LIMITS);
    expect(found).toBeInstanceOf(CheckedProperties);
    expect((found as CheckedProperties).text()).toBe('{ "a" : 1.0 ,"$lib":"x","$host":"h"}');
    expect((found as CheckedProperties).lifted.host).toBe("h");
    expect(own.lifted.host).toBe("");
    expect((withAdded(undefined, [added("name", "n")], cursor, DEFAULT_LIMITS) as CheckedProperties).text()).toBe(
      '{"name":"n"}',
    );
  });

  it("count among the keys that an event may have", () => {
    const many = Object.fromEntries(Array.from({ length: 999 }, (_, n) => [`k${n}`, n]));
    const one = withAdded(read(many), [added("$lib", "x")], cursor, DEFAULT_LIMITS);
    expect(reader.check(one, "properties", DEFAULT_LIMITS)).not.toHaveProperty("fault");
    const two = withAdded(read(many), [added("$lib", "x"), added("name", "n")], cursor, DEFAULT_LIMITS);
    expect(reader.check(two, "properties", DEFAULT_LIMITS)).toMatchObject({ fault: "too_complex" });
  });
});
