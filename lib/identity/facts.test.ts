import { describe, expect, it } from "vitest";
import { type FactSource, factsOf, readProperties } from "./facts.ts";

const MOMENT = { timeUs: 5, eventId: "00000000-0000-4000-8000-000000000001" };

function facts(event: string, properties: object | string, more: Partial<FactSource> = {}) {
  const read = typeof properties === "string" ? readProperties(properties) : (properties as Record<string, unknown>);
  return factsOf({ event, distinctId: "u", properties: read, trusted: false, ...MOMENT, ...more });
}

const edge = (kind: string, other: string, trusted = false) => ({ kind, id: "u", other, trusted, ...MOMENT });

describe("$identify", () => {
  it("joins the anonymous id to the user", () => {
    expect(facts("$identify", { $anon_distinct_id: "a" }).edge).toEqual(edge("identify", "a"));
  });

  it("takes the first of the two names that has a text which is not blank", () => {
    expect(facts("$identify", { $anon_distinct_id: " ", anon_distinct_id: "b" }).edge?.other).toBe("b");
    expect(facts("$identify", { $anon_distinct_id: 5, anon_distinct_id: " b" }).edge?.other).toBe(" b");
  });

  it.each([[{}], [{ $anon_distinct_id: "u" }], [{ $anon_distinct_id: "" }], [{ $anon_distinct_id: ["a"] }]])(
    "says that the user is identified, and joins nothing, with %j",
    (properties) => {
      expect(facts("$identify", properties).edge).toEqual(edge("identify", ""));
    },
  );

  it("says nothing when the distinct id is blank", () => {
    const nobody = { distinctId: " " };
    expect(facts("$identify", { $anon_distinct_id: "a", $set: { b: 1 } }, nobody)).toMatchObject({
      edge: undefined,
      properties: [],
    });
  });

  it("reads an unpaired surrogate as U+FFFD, which is what is stored and hashed", () => {
    expect(facts("$identify", '{"$anon_distinct_id":"a\\ud800"}').edge?.other).toBe("a\uFFFD");
  });
});

describe("$create_alias and $merge_dangerously", () => {
  it("joins the alias, and says whether the caller may join known people", () => {
    expect(facts("$create_alias", { alias: "x" }).edge).toEqual(edge("alias", "x"));
    expect(facts("$create_alias", { alias: "x" }, { trusted: true }).edge).toEqual(edge("alias", "x", true));
  });

  it("merges for a trusted caller alone", () => {
    expect(facts("$merge_dangerously", { alias: "x" }, { trusted: true }).edge).toEqual(edge("merge", "x", true));
    expect(facts("$merge_dangerously", { alias: "x" })).toEqual({ edge: undefined, properties: [], isRefused: true });
  });

  it.each([[{}], [{ alias: "" }], [{ alias: "u" }], [{ alias: 7 }], [{ alias: null }]])("says nothing with %j", (p) => {
    expect(facts("$create_alias", p, { trusted: true })).toMatchObject({ edge: undefined, properties: [] });
    const merge = facts("$merge_dangerously", p, { trusted: true });
    expect(merge).toMatchObject({ edge: undefined, properties: [], isRefused: false });
  });

  it("sets no properties", () => {
    expect(facts("$create_alias", { alias: "x", $set: { a: 1 } }).properties).toEqual([]);
  });
});

describe("properties of a person", () => {
  const of = (properties: object | string, event = "$set") =>
    facts(event, properties).properties.map(({ operation, key, value }) => `${operation} ${key} ${value}`);

  it.each(["$set", "$identify"])("are set, set once and unset by %s", (event) => {
    const properties = { $set: { a: 1, b: "x" }, $set_once: { c: null }, $unset: ["d", 5] };
    expect(of(properties, event)).toEqual(["set a 1", 'set b "x"', "set_once c null", "unset d "]);
  });

  it("are not touched by other events", () => {
    expect(of({ $set: { a: 1 }, $set_once: { b: 1 } }, "$pageview")).toEqual([]);
  });

  it.each([[null], [[1]], ["x"], [5]])("are empty when $set is %j", (value) => {
    expect(of({ $set: value, $set_once: value, $unset: 5 })).toEqual([]);
  });

  it("are unset by the keys of an object, too", () => {
    expect(of({ $unset: { a: 1, b: null } })).toEqual(["unset a ", "unset b "]);
  });

  it("keep the digits of numbers, at any depth", () => {
    expect(of('{"$set":{"a":12345678901234567890,"b":[1.0,{"c":-0}],"d":1e400,"e":2.5}}')).toEqual([
      "set a 12345678901234567890",
      'set b [1.0,{"c":-0}]',
      "set d 1e400",
      "set e 2.5",
    ]);
  });

  it("may be ten thousand, with any key", () => {
    const $set = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`k"'\n;${n}`, n]));
    expect(facts("$set", { $set }).properties).toHaveLength(10_000);
  });
});
