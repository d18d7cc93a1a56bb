// POST /v0/events: lines of JSON, what becomes of each, and what a caller who waits for rows hears.
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid } from "#lib/events/ids.ts";
import { jsonOf, KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";
import { until } from "../kit/until.ts";

let gateway: TestGateway;
beforeAll(async () => {
  const limits = { maxEventsPerBatch: 20, maxBatchBytes: 200_000, maxBytesInFlight: 400_000 };
  gateway = await startTestGateway({ publicApiKeys: [KEY], ...limits, storedTimeout: 300 });
});
afterAll(() => gateway[Symbol.asyncDispose]());

const BEARER = { authorization: `Bearer ${KEY}` };
const UUID = "0192f0c1-2345-7abc-8def-0123456789ab";

async function post(path: string, body: string | Uint8Array, headers: Record<string, string> = BEARER) {
  const before = (await gateway.stored()).length;
  const answer = await callH1(gateway.port, path, { headers, body });
  const events = (await gateway.events()).slice(before).map(({ propertiesJson, ...event }) => ({
    ...event,
    text: Buffer.from(propertiesJson).toString(),
  }));
  return { status: answer.status, body: jsonOf(answer), events };
}

it("lines are events: known members, and properties as they were sent", async () => {
  const lines = [
    `{"event":"paid","distinct_id":"u1","timestamp":"2026-03-27 12:00:00.5","uuid":"${UUID}","n":1.50,"m":[ 1 ]}`,
    '{"distinct_id":7,"properties":{"n":1},"n":2,"extra":null}\r',
    "   ",
    '{"event":null,"$set":{"plan":"pro"}}',
    '{"$set":{"a":1,"b":1},"distinct_id":" ","properties":{"distinct_id":"p","$set":{"b":2,"c":2}}}',
  ];
  const { status, body, events } = await post("/v0/events?name=clicks", lines.join("\n"));
  expect([status, body]).toEqual([202, { successful_rows: 4, quarantined_rows: 0 }]);
  expect(events).toMatchObject([
    { event: "paid", distinctId: "u1", text: '{"n":1.50,"m":[ 1 ]}', idFromCaller: true, apiKey: KEY },
    { event: "clicks", distinctId: "7", text: '{"n":1,"extra":null}', idFromCaller: false },
    { event: "clicks", distinctId: "", text: '{"$set":{"plan":"pro"}}' },
    { event: "clicks", distinctId: "p", text: '{"distinct_id":"p","$set":{"a":1,"b":1,"c":2}}' },
  ]);
  expect(formatUuid(events[0]?.id as Uint8Array)).toBe(UUID);
  expect(events[0]?.timeUs).toBe(BigInt(Date.parse("2026-03-27T12:00:00.500Z")) * 1000n);
});

const GOOD = '{"event":"good"}';

describe("a line at fault costs its neighbours nothing", () => {
  it.each([
    ["no JSON", '{"a":', { code: "invalid" }],
    ["half of a text", '"', { code: "invalid" }],
    ["no object", "[1]", { code: "invalid" }],
    ["two objects", "{}{}", { code: "invalid" }],
    ["not UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), { code: "invalid" }],
    ["a key twice", '{"a":1,"a":2}', { code: "invalid", field: "a" }],
    ["a uuid that is not one", '{"event":"e","uuid":"7"}', { code: "invalid", field: "uuid" }],
    ["a time that is not one", '{"event":"e","timestamp":"soon"}', { code: "invalid", field: "timestamp" }],
    ["a time that is a number", '{"event":"e","timestamp":1774612800}', { code: "invalid", field: "timestamp" }],
    ["NaN", '{"event":"e","n":NaN}', { code: "invalid", field: "n" }],
    ["no name", "{}", { code: "missing", field: "event" }],
    ["many levels", `{"event":"e","a":${"[".repeat(40)}${"]".repeat(40)}}`, { code: "too_complex" }],
    [
      "more keys than an event may have",
      `{"event":"e",${Array.from({ length: 1001 }, (_, n) => `"k${n}":1`)}}`,
      { code: "too_complex" },
    ],
  ])("%s", async (_case, bad, rejected) => {
    const bytes = Buffer.concat([Buffer.from(`${GOOD}\n`), Buffer.from(bad), Buffer.from(`\n${GOOD}`)]);
    const { status, body, events } = await post("/v0/events", bytes);
    expect([status, body]).toMatchObject([
      202,
      { successful_rows: 2, quarantined_rows: 1, rejected: [{ index: 1, ...rejected }] },
    ]);
    expect(events.map(({ event }) => event)).toEqual(["good", "good"]);
    expect(await post("/v0/events", bad)).toMatchObject({ status: 202, body: { successful_rows: 0 }, events: [] });
  });

  it("and a line of nothing is none", async () => {
    for (const body of ["", "\n", "\n \r\n\t\n"]) {
      const nothing = { status: 202, body: { successful_rows: 0, quarantined_rows: 0 }, events: [] };
      expect(await post("/v0/events?name=e", body)).toEqual(nothing);
    }
  });
});

describe("the request", () => {
  it.each([
    ["a token in the query", `/v0/events?name=e&token=${KEY}`, GOOD, {}, 202],
    [
      "any content type, compressed",
      "/v0/events?name=e",
      gzipSync(GOOD),
      { ...BEARER, "content-encoding": "gzip", "content-type": "application/x-www-form-urlencoded" },
      202,
    ],
    ["a name that is not UTF-8", "/v0/events?name=%ff", GOOD, BEARER, 400],
    ["the character that stands for one", "/v0/events?name=%EF%BF%BD", GOOD, BEARER, 202],
    ["no key", "/v0/events?name=e", GOOD, {}, 401],
    ["an unknown token", "/v0/events?name=e&token=who", GOOD, {}, 401],
    ["too many lines", "/v0/events?name=e", `${GOOD}\n`.repeat(21), BEARER, 413],
    ["too many bytes", "/v0/events?name=e", "\n".repeat(200_001), BEARER, 413],
    ["gzip of gzip", "/v0/events?name=e", gzipSync(gzipSync(GOOD)), { ...BEARER, "content-encoding": "gzip" }, 202],
    ["the wrong encoding", "/v0/events?name=e", gzipSync(GOOD), { ...BEARER, "content-encoding": "zstd" }, 400],
  ])("with %s", async (_case, path, body, headers, status) => {
    const answer = await post(path, body, headers as Record<string, string>);
    expect(answer.status).toBe(status);
    if (status !== 202) expect(answer).toMatchObject({ body: { error: expect.any(String) as string }, events: [] });
  });

  it("is 503 while the log is away, and 405 for other methods", async () => {
    gateway.appendBy(() => Promise.reject(new Error("away")));
    expect(await post("/v0/events?name=e&wait=true", GOOD)).toMatchObject({
      status: 503,
      body: { error: expect.any(String) },
    });
    gateway.appendBy(undefined);
    expect((await callH1(gateway.port, "/v0/events?name=e", { method: "GET", headers: BEARER })).status).toBe(405);
  });
});

describe("wait=true", () => {
  it("answers 200 when the rows are stored, and meanwhile holds no room", async () => {
    const end = (await gateway.stored()).length;
    gateway.storedUpTo(end);
    const large = `{"event":"e","text":"${"x".repeat(150_000)}"}`;
    const waiting = post("/v0/events?wait=true", `${large}\n${GOOD}`);
    await until(async () => (await gateway.stored()).length === end + 2, "the events on the log");
    await until(async () => (await gateway.metric("millrace_gateway_in_flight_bytes")) === 0, "no bytes in flight");
    gateway.storedUpTo(end + 2);
    expect(await waiting).toMatchObject({ status: 200, body: { successful_rows: 2, quarantined_rows: 0 } });
  });

  it("answers 202 with the position when they are not in time, as when ClickHouse is away", async () => {
    const end = (await gateway.stored()).length;
    gateway.storedUpTo(end + 1);
    const { status, body, events } = await post("/v0/events?wait=true", `${GOOD}\n5\n${GOOD}`);
    expect([status, body]).toMatchObject([
      202,
      { successful_rows: 2, quarantined_rows: 1, positions: [{ partition: 0, offset: end + 1 }] },
    ]);
    expect(events).toHaveLength(2);
  });

  it("has nothing to wait for when no row can be stored", async () => {
    expect(await post("/v0/events?wait=true", "5")).toMatchObject({ status: 200, body: { quarantined_rows: 1 } });
  });
});
