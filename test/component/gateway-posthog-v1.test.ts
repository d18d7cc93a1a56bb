// PostHog's Capture V1: a result for each event, "ok" only for what is on the log.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid } from "#lib/events/ids.ts";
import { JSON_TYPE, jsonOf, KEY, ORIGIN, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, callH1 } from "../kit/http-calls.ts";

const PATH = "/i/v1/analytics/events";
const NOW_MS = Date.UTC(2026, 2, 27, 12);

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway(
    { publicApiKeys: [KEY], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN] },
    () => NOW_MS,
  );
});
afterAll(() => gateway[Symbol.asyncDispose]());

const uuid = (n: number) => `0192f0c1-2345-7abc-8def-${String(n).padStart(12, "0")}`;
const event = (n: number, more: object = {}) => ({
  ...{
    event: `e${n}`,
    uuid: uuid(n),
    distinct_id: "d",
    timestamp: "2026-03-27T11:00:00.000Z",
    options: {},
    properties: {},
  },
  ...more,
});
const HEADERS = {
  ...{ authorization: `Bearer ${KEY}`, "posthog-sdk-info": "posthog-node/5.70.0", "posthog-attempt": "1" },
  "posthog-request-timestamp": "2026-03-27T11:00:00.000Z",
};

function post(batch: readonly unknown[], headers: Record<string, string> = {}): Promise<Answer> {
  const body = JSON.stringify({ created_at: "2026-03-27T11:00:00.000Z", batch });
  return callH1(gateway.port, PATH, { headers: { ...JSON_TYPE, ...HEADERS, ...headers }, body });
}

const resultsOf = (answer: Answer) =>
  (jsonOf(answer) as { results: Record<string, { result: string; details?: string }> }).results;
const storedSince = async (before: number) => (await gateway.events()).slice(before);

it("what its SDKs take out of the properties is put back", async () => {
  const before = (await gateway.stored()).length;
  const options = {
    process_person_profile: false,
    cookieless_mode: true,
    product_tour_id: "t",
    disable_skew_correction: true,
    other: 1,
  };
  const given = event(1, { session_id: "s", window_id: "w", options, properties: { a: 1.0, $set: { plan: "pro" } } });
  const answer = await post([given]);
  expect([answer.status, answer.text]).toEqual([200, `{"results":{"${uuid(1)}":{"result":"ok"}}}`]);
  const [stored] = await storedSince(before);
  expect([stored?.event, stored?.distinctId, stored?.apiKey, stored?.sessionId, stored?.windowId]).toEqual([
    "e1",
    "d",
    KEY,
    "s",
    "w",
  ]);
  expect(formatUuid(stored?.id ?? new Uint8Array(16))).toBe(uuid(1));
  expect(JSON.parse(Buffer.from(stored?.propertiesJson ?? "").toString())).toEqual({
    ...{ a: 1, $set: { plan: "pro" }, $lib: "posthog-node", $lib_version: "5.70.0" },
    ...{ $session_id: "s", $window_id: "w", $process_person_profile: false, $cookieless_mode: true },
    ...{ $product_tour_id: "t", $ignore_sent_at: true },
  });
});

it("a property that is there already stays as it is", async () => {
  const before = (await gateway.stored()).length;
  await post([event(2, { properties: { $lib: "mine", "\u0024lib_version": "1" }, session_id: null })]);
  const [stored] = await storedSince(before);
  expect(JSON.parse(Buffer.from(stored?.propertiesJson ?? "").toString())).toEqual({ $lib: "mine", $lib_version: "1" });
});

it("each event has a result of its own, and neighbours of one at fault are stored", async () => {
  const before = (await gateway.stored()).length;
  const batch = [
    event(10),
    event(11, { distinct_id: "" }),
    event(12, { event: "" }),
    event(13, { timestamp: "x" }),
    event(14, { uuid: "no-uuid" }),
    event(15, { uuid: "m".repeat(10_000) }),
    event(16, { options: [] }),
    5,
    { ...event(17), uuid: undefined },
    event(18),
  ];
  const answer = await post(batch);
  const results = resultsOf(answer);
  expect([answer.status, answer.headers["retry-after"]]).toEqual([200, undefined]);
  expect(results[uuid(10)]).toEqual({ result: "ok" });
  expect(results[uuid(18)]).toEqual({ result: "ok" });
  expect(results[uuid(11)]).toEqual({ result: "drop", details: expect.stringMatching(/^distinct_id: /) });
  expect(results[uuid(12)]).toEqual({ result: "drop", details: expect.stringMatching(/^event: /) });
  expect(results[uuid(13)]).toEqual({ result: "drop", details: expect.stringMatching(/^timestamp: "x"/) });
  expect(results["no-uuid"]).toEqual({ result: "drop", details: expect.stringMatching(/^uuid: must be a UUID/) });
  expect(results["m".repeat(10_000)]?.result).toBe("drop");
  expect(results[uuid(16)]).toEqual({ result: "drop", details: expect.stringMatching(/^options: must be an object/) });
  expect(Object.keys(results).length).toBe(8);
  expect((await storedSince(before)).map((each) => each.event)).toEqual(["e10", "e17", "e18"]);
});

it("501 events are 501 results", async () => {
  const before = (await gateway.stored()).length;
  const answer = await post(Array.from({ length: 501 }, (_, n) => event(1000 + n)));
  const results = Object.values(resultsOf(answer));
  expect([results.length, results.every(({ result }) => result === "ok")]).toEqual([501, true]);
  expect((await storedSince(before)).length).toBe(501);
});

it("the same id twice has one result, the worst", async () => {
  expect(resultsOf(await post([event(20), event(20)]))).toEqual({ [uuid(20)]: { result: "ok" } });
  const mixed = await post([event(21), event(21, { timestamp: "x" }), event(21)]);
  expect(resultsOf(mixed)[uuid(21)]?.result).toBe("drop");
  const named = resultsOf(await post([event(22, { uuid: "__proto__" })]));
  expect(Object.entries(named).map(([id, { result }]) => [id, result])).toEqual([["__proto__", "drop"]]);
});

describe("of an event without an id no result can be said", () => {
  const nameless = (n: number, more: object = {}) => event(n, { uuid: undefined, ...more });

  it("so all that are at fault are 400", async () => {
    const answer = await post([nameless(20, { event: "" }), nameless(21, { distinct_id: "" })]);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain("batch[0].event: must not be blank");
    const none = await callH1(gateway.port, PATH, { headers: { ...JSON_TYPE, ...HEADERS }, body: "{}" });
    expect(none.status).toBe(400);
  });

  it("so one that the log did not take is 503, whatever became of its neighbours", async () => {
    gateway.appendBy(() => Promise.reject(new Error("away")));
    try {
      const answer = await post([event(22), nameless(23)]);
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
    } finally {
      gateway.appendBy(undefined);
    }
  });

  it("and a good one beside one at fault is stored", async () => {
    const before = (await gateway.stored()).length;
    const answer = await post([nameless(24), nameless(25, { event: "" })]);
    expect([answer.status, answer.text]).toEqual([200, '{"results":{}}']);
    expect((await storedSince(before)).map((stored) => stored.event)).toEqual(["e24"]);
  });
});

describe("with the log away", () => {
  it("all are to be sent again, but for those at fault", async () => {
    gateway.appendBy(() => Promise.reject(new Error("away")));
    try {
      const answer = await post([event(30), event(31, { distinct_id: "" })]);
      expect([answer.status, answer.headers["retry-after"]]).toEqual([200, "1"]);
      expect(resultsOf(answer)[uuid(30)]).toEqual({ result: "retry", details: expect.stringContaining("event log") });
      expect(resultsOf(answer)[uuid(31)]?.result).toBe("drop");
    } finally {
      gateway.appendBy(undefined);
    }
  });
});

it("times of browsers alone are corrected, by when the request was sent", async () => {
  for (const [origin, time] of [
    [{}, "2026-03-27T11:00:00.000Z"],
    [{ origin: ORIGIN }, "2026-03-27T12:00:00.000Z"],
  ] as const) {
    const before = (await gateway.stored()).length;
    await post([event(40)], origin);
    const [stored] = await storedSince(before);
    expect(new Date(Number((stored?.timeUs ?? 0n) / 1000n)).toISOString()).toBe(time);
  }
});

it.each([
  ["no key", { authorization: "" }, 401],
  ["an unknown key", { authorization: "Bearer nope" }, 401],
  ["a key in the body alone", { authorization: "", "x-body-key": KEY }, 401],
  ["text/plain", { "content-type": "text/plain" }, 415],
  ["an unknown encoding", { "content-encoding": "lzma" }, 415],
])("%s is %s", async (_case, headers, status) => {
  const answer = await post([event(50)], headers);
  expect(answer.status).toBe(status);
  expect(jsonOf(answer)).toMatchObject({ detail: expect.any(String), attr: null });
});
