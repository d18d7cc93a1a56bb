import { expect, it } from "vitest";
import { factsOf, readProperties } from "./facts.ts";

const MOMENT = { timeUs: 7, eventId: "00112233-4455-6677-8899-aabbccddeeff" };

function said(event: string, json: string, distinctId = "d") {
  return factsOf({ event, distinctId, properties: readProperties(Buffer.from(json)) ?? {}, trusted: false, ...MOMENT });
}

it("$groupidentify describes a group, digits kept, and nobody", () => {
  const json =
    '{"$group_type":"company","$group_key":5,"$group_set":{"plan":"pro","size":12345678901234567890},"$set":{"a":1},"$anon_distinct_id":"x"}';
  expect(said("$groupidentify", json, "$company_5")).toEqual({
    ...{ edge: undefined, properties: [], isRefused: false },
    groups: [
      {
        type: "company",
        groupKey: "5",
        properties: [
          ["plan", '"pro"'],
          ["size", "12345678901234567890"],
        ],
        ...MOMENT,
      },
    ],
  });
  expect(said("$groupidentify", json, "").groups).toHaveLength(1);
});

it("$groups of any event name groups, beside what it says about a person", () => {
  const facts = said("paid", '{"$groups":{"company":"acme","team":7,"none":null},"$set":{"a":1}}');
  expect(facts.properties).toHaveLength(1);
  expect(facts.groups?.map(({ type, groupKey, properties }) => [type, groupKey, properties])).toEqual([
    ["company", "acme", []],
    ["team", "7", []],
  ]);
});

it.each([
  ["$groupidentify", '{"$group_key":"a"}', "wrong_type"],
  ["$groupidentify", '{"$group_type":"company","$group_key":{}}', "wrong_type"],
  ["$groupidentify", '{"$group_type":"company","$group_key":"undefined"}', "no_id"],
  ["$groupidentify", '{"$group_type":" ","$group_key":"a"}', "no_id"],
  ["e", '{"$groups":{"company":["a"]}}', "wrong_type"],
  ["e", '{"$groups":{"company":"null"}}', "no_id"],
  ["e", '{"$groups":"acme"}', "wrong_type"],
  ["e", '{"$groups":["acme"]}', "wrong_type"],
  ["e", '{"$groups":7}', "wrong_type"],
])("of %s with %s there is no group", (event, json, reason) => {
  expect(said(event, json)).toMatchObject({ voids: [reason] });
  expect(said(event, json).groups).toBeUndefined();
});

it.each(['{"$groups":null}', '{"$groups":{}}'])("of %s there is none, and nothing void", (json) => {
  expect(said("e", json)).toEqual({ edge: undefined, properties: [], isRefused: false });
});

it("a set that is not an object leaves the group without properties", () => {
  const facts = said("$groupidentify", '{"$group_type":"t","$group_key":"k","$group_set":[1]}');
  expect([facts.groups?.[0]?.properties, facts.voids]).toEqual([[], ["wrong_type"]]);
});
