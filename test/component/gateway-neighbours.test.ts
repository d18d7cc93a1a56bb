// One bad event never costs its neighbours: on every wire that takes several, the others are stored and it is named.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { JSON_TYPE, jsonOf, KEY, postBatch } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY] });
});
afterAll(() => gateway[Symbol.asyncDispose]());

/** The bad one as the text of its members, beside a name and a distinct id. */
const BAD: [string, string, string][] = [
  ["a number as distinct id", '{"event":"e","distinct_id":42}', "distinct_id"],
  ["null as distinct id", '{"event":"e","distinct_id":null}', "distinct_id"],
  ["an object as distinct id", '{"event":"e","distinct_id":{}}', "distinct_id"],
  ["a number as name", '{"event":5,"distinct_id":"d"}', "event"],
  ["null as name", '{"event":null,"distinct_id":"d"}', "event"],
  ["null as key", '{"event":"e","distinct_id":"d","api_key":null}', "api_key"],
  ["null as time", '{"event":"e","distinct_id":"d","timestamp":null}', "timestamp"],
  ["a number as time", '{"event":"e","distinct_id":"d","timestamp":1795255200}', "timestamp"],
  ["a word as time", '{"event":"e","distinct_id":"d","timestamp":"soon"}', "timestamp"],
  ["null as properties", '{"event":"e","distinct_id":"d","properties":null}', "properties"],
  ["an array as properties", '{"event":"e","distinct_id":"d","properties":[]}', "properties"],
  ["text as properties", '{"event":"e","distinct_id":"d","properties":"{}"}', "properties"],
  ["NaN as property", '{"event":"e","distinct_id":"d","properties":{"a":{"b":NaN}}}', "properties.a.b"],
  ["-Infinity as property", '{"event":"e","distinct_id":"d","properties":{"a":[-Infinity]}}', "properties.a.0"],
  ["NaN in an ignored member", '{"event":"e","distinct_id":"d","x":NaN}', "x"],
  ["a property twice", '{"event":"e","distinct_id":"d","properties":{"a":1,"a":2}}', "properties.a"],
  ["a member twice", '{"event":"e","distinct_id":"d","event":"f"}', "event"],
  [
    "properties nested too deep",
    `{"event":"e","distinct_id":"d","properties":{"a":${"[".repeat(99)}${"]".repeat(99)}}}`,
    "properties.a.0.0",
  ],
  ["a name that is too long", `{"event":"${"x".repeat(201)}","distinct_id":"d"}`, "event"],
  [
    "$set nested too deep",
    `{"event":"e","distinct_id":"d","$set":{"a":${"[".repeat(31)}${"]".repeat(31)}}}`,
    "properties.$set.a",
  ],
  ["null", "null", ""],
  ["a number", "1", ""],
  ["an array", "[]", ""],
];

const GOOD = (name: string) => JSON.stringify({ event: name, distinct_id: "d", properties: { n: 1 } });
const post = (events: readonly string[]) =>
  callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body: `{"api_key":"${KEY}","batch":[${events.join(",")}]}` });
const since = async (before: number): Promise<EventRecord[]> => (await gateway.events()).slice(before);

describe("/batch/", () => {
  it.each(BAD)("%s", async (_case, bad, field) => {
    const before = (await gateway.stored()).length;
    const answer = await post([GOOD("first"), bad, GOOD("third"), bad]);
    expect(answer.status).toBe(200);
    const { rejected, ...counts } = jsonOf(answer) as { rejected: { index: number; field: string }[] };
    expect(counts).toEqual({ status: "ok", ingested: 2, dropped: 2 });
    expect(rejected.map(({ index, field: named }) => [index, named])).toEqual([
      [1, field],
      [3, field],
    ]);
    expect((await since(before)).map(({ event }) => event)).toEqual(["first", "third"]);
  });

  it("all of them at once, the answer in their order", async () => {
    const events = BAD.flatMap(([, bad]) => [bad, GOOD("good")]);
    const answer = jsonOf(await post(events)) as { ingested: number; rejected: { index: number }[] };
    expect(answer.ingested).toBe(BAD.length);
    expect(answer.rejected.map(({ index }) => index)).toEqual(BAD.map((_, n) => 2 * n));
  });

  it("with none that can be taken, the contract's status and text stand", async () => {
    for (const [name, bad, field] of BAD.filter(([, text]) => !/x{201}|\[{31}/.test(text))) {
      const answer = await post([bad]);
      expect([name, answer.status]).toEqual([name, 400]);
      expect((jsonOf(answer) as { error: string }).error).toMatch(
        new RegExp(`^batch\\[0\\]${field === "" ? "" : `\\.${field.replaceAll("$", "\\$")}`}: `),
      );
    }
  });

  it("with one of them dropped for having no name, the other's fault is the answer", async () => {
    const answer = await post(['{"distinct_id":"d"}', '{"event":1}']);
    expect([answer.status, (jsonOf(answer) as { error: string }).error.slice(0, 15)]).toEqual([400, "batch[1].event:"]);
  });

  it("what is no JSON is the whole body's fault, and named by its place", async () => {
    const answer = await post([GOOD("a"), '{"event":"e","properties":{"a":tru}}']);
    expect(answer.status).toBe(400);
    expect((jsonOf(answer) as { error: string }).error).toMatch(
      /^body: is not JSON: .* at byte \d+ \(in batch\.1\.properties\.a\)$/,
    );
  });
});

describe("what is said about people beside the properties", () => {
  const stored = async (event: object): Promise<unknown> => {
    const before = (await gateway.stored()).length;
    const answer = await postBatch(gateway.port, [{ event: "$identify", distinct_id: "u", ...event }]);
    expect(answer.status).toBe(200);
    const [record] = await since(before);
    return Buffer.from(record?.propertiesJson ?? []).toString();
  };

  it.each([
    [{ $set: { plan: "pro" } }, '{"$set":{"plan":"pro"}}'],
    [{ $set_once: { a: 1 }, $unset: ["b"], properties: {} }, '{"$set_once":{"a":1},"$unset":["b"]}'],
    [
      { properties: { x: 1 }, $anon_distinct_id: "anon", alias: "al" },
      '{"x":1,"$anon_distinct_id":"anon","alias":"al"}',
    ],
    [{ $groups: { company: "c" } }, '{"$groups":{"company":"c"}}'],
    [{ $set: null, $set_once: null, properties: { x: 1 } }, '{"x":1}'],
  ])("%j is stored among them", async (event, expected) => {
    expect(await stored(event)).toBe(expected);
  });

  it("joins what is among them: of one key, what is beside counts for $set, what is inside elsewhere", async () => {
    const properties = { $set: { a: 1, b: 2 }, alias: "inside", x: 1 };
    const text = await stored({ $set: { b: 3, c: 4 }, alias: "beside", properties });
    expect(JSON.parse(text as string)).toEqual({ $set: { a: 1, b: 3, c: 4 }, alias: "inside", x: 1 });
  });

  it("keeps its digits", async () => {
    const body = `{"api_key":"${KEY}","batch":[{"event":"$set","distinct_id":"u","$set":{"n": 9007199254740993},"properties":{"$set":{"d":1.10}}}]}`;
    const before = (await gateway.stored()).length;
    expect((await callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body })).status).toBe(200);
    const [record] = await since(before);
    expect(Buffer.from(record?.propertiesJson ?? []).toString()).toBe('{"$set":{"n": 9007199254740993,"d":1.10}}');
  });

  it("is lifted from there", async () => {
    const before = (await gateway.stored()).length;
    await postBatch(gateway.port, [{ event: "$identify", distinct_id: "u", $anon_distinct_id: "anon" }]);
    expect((await since(before))[0]).toMatchObject({ anonDistinctId: "anon" });
  });
});
