import { describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { type FactSource, factsOf, type IdentityFacts, readProperties } from "./facts.ts";
import { peopleOf } from "./people.ts";
import { addIdentityRows, noIdentityRows } from "./rows.ts";

const MOMENT = { timeUs: 5, eventId: "00000000-0000-4000-8000-000000000001" };

function facts(event: string, properties: object | string, more: Partial<FactSource> = {}) {
  const read =
    typeof properties === "string"
      ? (readProperties(Buffer.from(properties)) ?? {})
      : (properties as Record<string, unknown>);
  return factsOf({ event, distinctId: "u", properties: read, trusted: false, ...MOMENT, ...more });
}

const edge = (kind: string, other: string, trusted = false) => ({ kind, id: "u", other, trusted, ...MOMENT });

describe("$identify", () => {
  it("joins the anonymous id to the user", () => {
    expect(facts("$identify", { $anon_distinct_id: "a" }).edge).toEqual(edge("identify", "a"));
  });

  it("takes the first of the two names that has a text which is not blank", () => {
    expect(facts("$identify", { $anon_distinct_id: " ", anon_distinct_id: "b" }).edge?.other).toBe("b");
    expect(facts("$identify", { $anon_distinct_id: [5], anon_distinct_id: " b" }).edge?.other).toBe(" b");
    expect(facts("$identify", { $anon_distinct_id: null, anon_distinct_id: "b" })).not.toHaveProperty("voids");
  });

  it("takes a number for its text, with the digits that were sent", () => {
    expect(facts("$identify", { $anon_distinct_id: 5 }).edge?.other).toBe("5");
    expect(facts("$identify", '{"$anon_distinct_id":9007199254740993}').edge?.other).toBe("9007199254740993");
    expect(facts("$create_alias", '{"alias":1.0}', { trusted: true }).edge?.other).toBe("1.0");
  });

  it.each([[["a"]], [{ id: "a" }], [true]])("counts %j as an anonymous id, and takes it for none", (value) => {
    expect(facts("$identify", { $anon_distinct_id: value })).toMatchObject({
      edge: { other: "" },
      voids: ["wrong_type"],
    });
  });

  it.each(["null", "undefined", "[object Object]", "NaN", "guest", "0", "TRUE", ' "null" '])(
    "makes no link of %j, whichever side it is on, and counts it",
    (word) => {
      expect(facts("$identify", { $anon_distinct_id: word })).toMatchObject({
        edge: { id: "u", other: "" },
        voids: ["no_id"],
      });
      const nobody = { distinctId: word, trusted: true };
      expect(facts("$identify", { $anon_distinct_id: "a" }, nobody)).toMatchObject({
        edge: undefined,
        voids: ["no_id"],
      });
      for (const event of ["$create_alias", "$merge_dangerously"]) {
        expect(facts(event, { alias: word }, { trusted: true })).toMatchObject({ edge: undefined, voids: ["no_id"] });
        expect(facts(event, { alias: "x" }, nobody)).toMatchObject({ edge: undefined, voids: ["no_id"] });
      }
    },
  );

  it("counts an id that is no id once where both are", () => {
    expect(facts("$identify", { $anon_distinct_id: "null" }, { distinctId: "null" }).voids).toEqual(["no_id"]);
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

  it.each([[{}], [{ alias: "" }], [{ alias: "u" }], [{ alias: null }], [{ alias: ["x"] }]])(
    "says nothing with %j",
    (p) => {
      expect(facts("$create_alias", p, { trusted: true })).toMatchObject({ edge: undefined, properties: [] });
      const merge = facts("$merge_dangerously", p, { trusted: true });
      expect(merge).toMatchObject({ edge: undefined, properties: [], isRefused: false });
    },
  );

  it("sets properties as every event does", () => {
    expect(facts("$create_alias", { alias: "x", $set: { a: 1 } }).properties).toHaveLength(1);
    expect(facts("$merge_dangerously", { alias: "x", $set: { a: 1 } })).toMatchObject({ properties: [{ key: "a" }] });
  });
});

describe("properties of a person", () => {
  const of = (properties: object | string, event = "$set") =>
    facts(event, properties).properties.map(({ operation, key, value }) => `${operation} ${key} ${value}`);

  it.each(["$set", "$identify", "$set_once", "$pageview", "bought"])("are set, set once and unset by %s", (event) => {
    const properties = { $set: { a: 1, b: "x" }, $set_once: { c: null }, $unset: ["d", 5] };
    expect(of(properties, event)).toEqual(["set a 1", 'set b "x"', "set_once c null", "unset d ", "unset 5 "]);
  });

  it.each([[[1]], ["x"], [5], ['{"a":1}'], [true]])("are empty when $set is %j, which is counted", (value) => {
    const said = facts("bought", { $set: value, $set_once: value });
    expect([said.properties, said.voids]).toEqual([[], ["wrong_type", "wrong_type"]]);
  });

  it("are empty, and nothing is counted, when $set is null", () => {
    expect(facts("bought", { $set: null, $set_once: null, $unset: null })).toEqual({
      ...{ edge: undefined, properties: [], isRefused: false },
    });
  });

  it("are unset by one key alone, too", () => {
    expect(of({ $unset: "a" })).toEqual(["unset a "]);
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

describe("a link whose time lies long before its arrival", () => {
  const DAY_US = 86_400_000_000;
  const arrival = { receivedUs: 100 * DAY_US };
  const old = { timeUs: 3 * DAY_US, ...arrival };
  const moved = { edge: { timeUs: 93 * DAY_US }, saidUs: 3 * DAY_US };

  it("counts from seven days before it, by a public key", () => {
    expect(facts("$identify", { $anon_distinct_id: "a" }, old)).toMatchObject(moved);
    expect(facts("$create_alias", { alias: "a" }, old)).toMatchObject(moved);
  });

  it("counts from when it was said by a secret key, within seven days, and in the future", () => {
    for (const more of [
      { ...old, trusted: true },
      { timeUs: 93 * DAY_US, ...arrival },
      { timeUs: 101 * DAY_US, ...arrival },
    ]) {
      const found = facts("$identify", { $anon_distinct_id: "a" }, more);
      expect(found.edge?.timeUs).toBe(more.timeUs);
      expect(found).not.toHaveProperty("saidUs");
    }
  });

  it("leaves the times of properties and of the ids as they were said", () => {
    const found = facts("$identify", { $anon_distinct_id: "a", $set: { plan: "pro" } }, old);
    expect(found.properties).toMatchObject([{ timeUs: old.timeUs }]);
    const rows = noIdentityRows();
    addIdentityRows(rows, found, { epoch: "e", topic: "t", partition: 0 }, 0);
    for (const row of rows.identity_ids) expect(JSON.parse(row)).toMatchObject({ 4: old.timeUs, 5: old.timeUs });
    for (const row of rows.identity_edges) expect(row).toContain(String(93 * DAY_US));
  });
});

it.each([false, true])(
  "an id that has been somebody's for eight days is not to be had by a date (reversed: %s)",
  (isReversed) => {
    const DAY_US = 86_400_000_000;
    const claim = (distinctId: string, eventId: string, timeDay: number, receivedDay: number) =>
      facts(
        "$identify",
        { $anon_distinct_id: "a" },
        {
          ...{ distinctId, eventId, timeUs: timeDay * DAY_US, receivedUs: receivedDay * DAY_US },
        },
      );
    const ownerOfA = (...all: IdentityFacts[]) => {
      const people = peopleOf(isReversed ? all.reverse() : all).values();
      return [...people].find(({ distinctIds }) => distinctIds.includes("a"))?.id;
    };
    const owner = claim("owner", "00000000-0000-4000-8000-000000000002", 50, 50);
    const thief = claim("thief", "00000000-0000-4000-8000-000000000001", 1, 58);
    expect(ownerOfA(owner, thief)).toBe(personIdOf("owner"));
    // What a client could not send for six days is still believed.
    const offline = claim("offline", "00000000-0000-4000-8000-000000000003", 49, 55);
    expect(ownerOfA(owner, thief, offline)).toBe(personIdOf("offline"));
  },
);

// JSON.parse guesses keys from objects that it has read before, this process over, and takes a key with an escape for one
// that has a backslash in that place.
it.each([
  [String.raw`{"$set":{"a":1,"\\":2},"$set_once":{"a":1,"\u0041":2}}`, ["a", "\\", "a", "A"]],
  [String.raw`{"x":[{"q":1,"q\\":2}],"$set":{"q":1,"q\u00e9t":2}}`, ["q", "q\u00e9t"]],
  [String.raw`{"$set":{"q":1,"q\u00e9t":2}}`, ["q", "q\u00e9t"]],
])("keys are those that were sent, whatever was read before: %s", (json, keys) => {
  JSON.parse(json);
  expect(facts("$set", json).properties.map(({ key }) => key)).toEqual(keys);
});

it.each(["[]", "1", "{nonsense}", '{"a":1}x', "", `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`])(
  "what is no object says nothing: %s",
  (json) => expect(readProperties(Buffer.from(json))).toBeUndefined(),
);
