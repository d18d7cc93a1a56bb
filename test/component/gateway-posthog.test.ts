// PostHog's wires but for V1: what bodies are taken, what becomes of the events, statuses, answers and what browsers are
// told. docs/wires.md is the contract.
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid } from "#lib/events/ids.ts";
import { JSON_TYPE, jsonOf, KEY, ORIGIN, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, type Call, callH1 } from "../kit/http-calls.ts";

const NOW_MS = Date.UTC(2026, 2, 27, 12);
const UUID = "0192f0c1-2345-7abc-8def-0123456789ab";
const MAX_EVENTS = 4;
const FORM = { "content-type": "application/x-www-form-urlencoded" };
const TEXT = { "content-type": "text/plain" };
const SINGLE = { api_key: KEY, uuid: UUID, event: "e é", distinct_id: "d", properties: { a: 1 } };
const BATCH = { api_key: KEY, batch: [{ ...SINGLE, api_key: undefined }] };

let gateway: TestGateway;
/** The same without any key set, on loopback. */
let keyless: TestGateway;
beforeAll(async () => {
  const settings = { publicApiKeys: [KEY], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN] };
  gateway = await startTestGateway({ ...settings, maxEventsPerBatch: MAX_EVENTS }, () => NOW_MS);
  keyless = await startTestGateway({ allowedOrigins: [ORIGIN] });
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await keyless[Symbol.asyncDispose]();
});

const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
const base64 = (value: unknown) => Buffer.from(text(value)).toString("base64");
const form = (value: string) => `data=${encodeURIComponent(value)}`;

function post(path: string, value: unknown, call: Call = {}): Promise<Answer> {
  const body = Buffer.isBuffer(value) ? value : text(value);
  return callH1(gateway.port, path, { headers: JSON_TYPE, body, ...call });
}

async function storedBy(path: string, value: unknown, call: Call = {}) {
  const before = (await gateway.stored()).length;
  const answer = await post(path, value, call);
  expect([answer.status, answer.text]).toEqual([200, '{"status":1}']);
  return (await gateway.events()).slice(before).map((each) => ({
    id: each.idFromCaller ? formatUuid(each.id) : "",
    ...{ event: each.event, distinctId: each.distinctId, apiKey: each.apiKey },
    properties: JSON.parse(Buffer.from(each.propertiesJson).toString()) as unknown,
    time: new Date(Number(each.timeUs / 1000n)).toISOString(),
  }));
}

async function refusedBy(path: string, value: unknown, call: Call = {}) {
  const before = (await gateway.stored()).length;
  const answer = await post(path, value, call);
  expect((await gateway.stored()).length).toBe(before);
  const body = jsonOf(answer) as { type: string; code: string; detail: string; attr: null };
  expect(Object.keys(body)).toEqual(["type", "code", "detail", "attr"]);
  return { status: answer.status, ...body };
}

const THE_EVENT = { id: UUID, event: "e é", distinctId: "d", apiKey: KEY, properties: { a: 1 } };

describe("one event is stored, however its body is packed", () => {
  it.each([
    ["a batch", BATCH, {}, ""],
    ["one event", SINGLE, {}, ""],
    ["an array", [SINGLE], {}, ""],
    ["JSON without a content type", SINGLE, { headers: {} }, ""],
    ["text/plain", SINGLE, { headers: TEXT }, ""],
    ["text/plain with a charset", SINGLE, { headers: { "content-type": "text/plain;charset=UTF-8" } }, ""],
    ["gzip by its first bytes, as posthog-js sends it", gzipSync(text(BATCH)), { headers: TEXT }, ""],
    ["gzip named in the query", gzipSync(text(BATCH)), { headers: TEXT }, "?compression=gzip-js"],
    ["gzip in chunks of one byte", gzipSync(text(BATCH)), { headers: TEXT, chunked: true }, "?compression=gzip"],
    ["gzip by header", gzipSync(text(BATCH)), { headers: { ...JSON_TYPE, "content-encoding": "gzip" } }, ""],
    ["a beacon's form", form(base64(BATCH)), { headers: FORM }, "?compression=base64"],
    ["a form in which base64 was not escaped", `data=${base64(SINGLE)}`, { headers: FORM }, ""],
    ["a form of JSON", form(text(SINGLE)), { headers: FORM }, ""],
    ["JSON that is called a form", SINGLE, { headers: FORM }, ""],
    ["base64 alone", base64(SINGLE), { headers: TEXT }, "?compression=base64"],
    ["another compression than is named", SINGLE, {}, "?compression=gzip-js"],
    ["gzip that is called base64", gzipSync(text(SINGLE)), { headers: TEXT }, "?compression=base64"],
    ["other keys in the query", SINGLE, {}, "?_=1711540800000&ip=0&ver=1.434.17"],
  ] as const)("%s", async (_case, value, call, query) => {
    expect(await storedBy(`/e/${query}`, value, call)).toMatchObject([THE_EVENT]);
  });

  it.each(["/e/", "/e", "/i/v0/e/", "/i/v0/e", "/capture/", "/capture", "/track/", "/track", "/engage/", "/batch"])(
    "by %s",
    async (path) => {
      expect(await storedBy(path, SINGLE)).toMatchObject([THE_EVENT]);
    },
  );
});

describe("an event says", () => {
  it.each([
    [
      "its distinct id as a number, digits kept",
      { distinct_id: 12345678901234567890n },
      { distinctId: "12345678901234567890" },
    ],
    [
      "its distinct id among the properties",
      { distinct_id: null, properties: { distinct_id: "p" } },
      { distinctId: "p" },
    ],
    ["its distinct id with a dollar", { distinct_id: undefined, $distinct_id: "q" }, { distinctId: "q" }],
    [
      "that as a number",
      { distinct_id: undefined, $distinct_id: 9007199254740993n },
      { distinctId: "9007199254740993" },
    ],
    [
      "a number among the properties",
      { distinct_id: undefined, properties: { n: 1, distinct_id: 9007199254740993n } },
      { distinctId: "9007199254740993" },
    ],
    [
      "that with a dollar, and a blank beside",
      { distinct_id: " ", properties: { distinct_id: "", $distinct_id: 42 } },
      { distinctId: "42" },
    ],
    ["nothing where it says null", { properties: null, timestamp: null, uuid: null }, { properties: {}, id: "" }],
    ["an id that is not a UUID, which is none", { uuid: "evt_1" }, { id: "" }],
    [
      "people's properties beside its own",
      { $set: { plan: "pro" }, $set_once: { from: "ad" } },
      { properties: { a: 1, $set: { plan: "pro" }, $set_once: { from: "ad" } } },
    ],
    [
      "when it was, with microseconds",
      { timestamp: "2026-03-27T11:00:00.123456+00:00" },
      { time: "2026-03-27T11:00:00.123Z" },
    ],
    ["nothing of that, and it is now", {}, { time: "2026-03-27T12:00:00.000Z" }],
  ])("%s", async (_case, more, wanted) => {
    const value = JSON.stringify({ ...SINGLE, ...more }, (_key, each: unknown) =>
      typeof each === "bigint" ? `<<${each}>>` : each,
    );
    expect(await storedBy("/capture/", value.replaceAll(/"<<(\d+)>>"/g, "$1"))).toMatchObject([wanted]);
  });

  it("to /engage/ what people are like, without a name", async () => {
    const value = { token: KEY, $distinct_id: "d", $set: { plan: "pro" } };
    const wanted = { event: "$identify", distinctId: "d", properties: { $set: { plan: "pro" } } };
    expect(await storedBy("/engage/", value)).toMatchObject([wanted]);
  });

  it.each([
    ["of a browser", { origin: ORIGIN }, "2026-03-27T11:59:50.000Z"],
    ["but not of a server", {}, "2026-03-27T10:59:50.000Z"],
  ])("times %s are corrected by sent_at", async (_case, headers, time) => {
    const batch = [{ ...SINGLE, timestamp: "2026-03-27T10:59:50Z" }];
    const value = { api_key: KEY, batch, sent_at: "2026-03-27T11:00:00Z" };
    expect(await storedBy("/e/", value, { headers: { ...JSON_TYPE, ...headers } })).toMatchObject([{ time }]);
  });
});

describe("the key", () => {
  const { api_key: _, ...anonymous } = SINGLE;
  it.each([
    ["as token of the envelope", "/e/", { token: KEY, batch: [anonymous] }, {}],
    ["as token of the event", "/e/", { ...anonymous, token: ` ${KEY} ` }, {}],
    ["as api_key of an event of an array", "/e/", [anonymous, SINGLE], {}],
    ["as token among the properties", "/e/", [{ ...anonymous, properties: { a: 1, token: KEY } }], {}],
    ["as a bearer token", "/e/", anonymous, { authorization: `Bearer ${KEY}` }],
    ["as a basic user", "/e/", anonymous, { authorization: `Basic ${btoa(`${KEY}:`)}` }],
    ["as api_key of the query", `/e/?api_key=${KEY}`, anonymous, {}],
    ["as token of the query", `/e/?token=${KEY}&_=1#f`, anonymous, {}],
    [
      "in a header, whatever is called token among the properties",
      "/e/",
      { ...anonymous, properties: { token: "t" } },
      { "x-api-key": KEY },
    ],
  ])("%s", async (_case, path, value, headers) => {
    const stored = await storedBy(path, value, { headers: { ...JSON_TYPE, ...headers } });
    expect(new Set(stored.map(({ apiKey }) => apiKey))).toEqual(new Set([KEY]));
  });

  it("is not asked of a listed origin, whatever is called token among the properties", async () => {
    const headers = { ...JSON_TYPE, origin: ORIGIN };
    for (const properties of [{}, { token: "t" }]) {
      expect(await storedBy("/e/", { ...anonymous, properties }, { headers })).toMatchObject([{ apiKey: "" }]);
    }
  });

  it("may be any where none is set", async () => {
    const answer = await callH1(keyless.port, "/capture/", {
      headers: JSON_TYPE,
      body: text({ ...SINGLE, api_key: "any" }),
    });
    expect([answer.status, (await keyless.events()).length]).toEqual([200, 1]);
  });

  it.each([
    ["none", anonymous, {}, 401],
    ["an unknown one", { ...SINGLE, api_key: "nope" }, {}, 401],
    ["an unknown one, and a good one in a header", { ...SINGLE, api_key: "nope" }, { "x-api-key": KEY }, 401],
    ["an unknown one from a listed origin", { ...SINGLE, api_key: "nope" }, { origin: ORIGIN }, 401],
    ["an unknown token among the properties alone", { ...anonymous, properties: { token: "nope" } }, {}, 401],
    ["a good one from another origin", SINGLE, { origin: "https://other.example" }, 403],
  ])("%s is refused", async (_case, value, headers, status) => {
    const refusal = await refusedBy("/e/", value, { headers: { ...JSON_TYPE, ...headers } });
    expect(refusal).toMatchObject({ status, type: "authentication_error" });
  });

  it("two different ones are invalid", async () => {
    const refusal = await refusedBy("/e/", { ...BATCH, batch: [{ ...SINGLE, api_key: SECRET }] });
    expect(refusal).toMatchObject({ status: 400, detail: expect.stringMatching(/^api_key: has different values/) });
  });
});

describe("an event at fault", () => {
  it("costs its neighbours nothing, and is named", async () => {
    const before = (await gateway.stored()).length;
    const batch = [SINGLE, { event: "e" }, 5, { ...SINGLE, timestamp: "yesterday" }];
    const answer = await post("/e/", { api_key: KEY, batch });
    expect(answer.status).toBe(200);
    expect(jsonOf(answer)).toMatchObject({
      ...{ status: 1, dropped: 3 },
      rejected: [
        { index: 1, code: "missing", field: "distinct_id" },
        { index: 2, code: "invalid", field: "" },
        { index: 3, code: "invalid", field: "timestamp" },
      ],
    });
    expect((await gateway.stored()).length).toBe(before + 1);
  });

  it.each([
    ["no distinct id", { event: "e", api_key: KEY }, /^distinct_id: is required/],
    ["no name", { distinct_id: "d", api_key: KEY }, /^event: must not be blank/],
    ["a name of another type", { ...SINGLE, event: 5 }, /^event: must be a string, not a number/],
    ["properties of another type", { ...SINGLE, properties: [] }, /^properties: must be an object, not an array/],
    ["an invalid time", { ...SINGLE, timestamp: "x" }, /^timestamp: "x" cannot be read/],
    ["one in a batch", { api_key: KEY, batch: [{}, {}] }, /^batch\[0\]\.distinct_id: /],
    ["no events", { api_key: KEY, batch: [] }, /^batch: must have at least one event/],
    ["no events at all", [], /^batch: must have at least one event/],
    ["a batch of another type", { api_key: KEY, batch: {} }, /^batch: must be an array of events, not an object/],
    ["a number for a body", "5", /^body: must be an event, an array/],
    ["a body that is not JSON", '{"a":', /^body: is not JSON/],
    ["words", "hello", /^body: is not JSON/],
    ["an empty body", "", /^body: is empty/],
  ])("alone is refused: %s", async (_case, value, detail) => {
    expect(await refusedBy("/e/", value)).toMatchObject({
      status: 400,
      type: "validation_error",
      detail: expect.stringMatching(detail),
    });
  });

  it("so are too many events", async () => {
    const batch = Array.from({ length: MAX_EVENTS + 1 }, () => ({}));
    expect(await refusedBy("/e/", { api_key: KEY, batch })).toMatchObject({ status: 413, code: "too_many" });
  });
});

describe("a body that is packed to do harm", () => {
  it.each([
    ["gzip of gzip", gzipSync(gzipSync(text(SINGLE))), TEXT, "", 400],
    ["gzip of gzip by header", gzipSync(gzipSync(text(SINGLE))), { ...JSON_TYPE, "content-encoding": "gzip" }, "", 400],
    ["gzip cut off", gzipSync(text(SINGLE)).subarray(0, 30), TEXT, "", 400],
    ["the first bytes of gzip alone", Buffer.of(0x1f, 0x8b), TEXT, "", 400],
    ["one byte", Buffer.of(0x1f), TEXT, "", 400],
    ["gzip with junk behind it", Buffer.concat([gzipSync(text(SINGLE)), Buffer.from("junk")]), TEXT, "", 400],
    ["base64 of garbage", form(Buffer.from([0xff, 0xfe, 0]).toString("base64")), FORM, "?compression=base64", 400],
    ["garbage for base64", form("%%%"), FORM, "?compression=base64", 400],
    ["broken escapes", "data=%zz", FORM, "", 400],
    ["a form without data", "ver=1", FORM, "", 400],
    ["an unknown compression", SINGLE, JSON_TYPE, "?compression=lz64", 415],
    ["an unknown encoding", SINGLE, { ...JSON_TYPE, "content-encoding": "lzma" }, "", 415],
    ["another content type", SINGLE, { "content-type": "application/xml" }, "", 415],
    ["another charset", SINGLE, { "content-type": "text/plain; charset=utf-16" }, "", 415],
    ["a bomb without a key", gzipSync(" ".repeat(30_000_000)), TEXT, "", 413],
    ["a bomb by base64 in gzip", gzipSync(`data=${"A".repeat(30_000_000)}`), FORM, "", 413],
    ["as much of base64 as a stranger may send", `data=${"A".repeat(2_000_000)}`, FORM, "", 400],
    ["more than that", `data=${"A".repeat(3_000_000)}`, FORM, "", 413],
    ["nothing but nesting", "[".repeat(100_000), JSON_TYPE, "", 400],
  ] as const)("%s is refused", async (_case, value, headers, query, status) => {
    expect(await refusedBy(`/e/${query}`, value, { headers })).toMatchObject({ status });
  });

  it("leaves nothing in flight", async () => {
    await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBe(0);
  });
});

describe("with the log away", () => {
  it.each(["/e/", "/batch"])("%s is 503 with Retry-After, and stores once sent again", async (path) => {
    gateway.appendBy(() => Promise.reject(new Error("away")));
    try {
      const answer = await post(path, SINGLE);
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
    } finally {
      gateway.appendBy(undefined);
    }
    expect(await storedBy(path, SINGLE)).toMatchObject([THE_EVENT]);
  });
});

describe("flags", () => {
  const NONE = { flags: {}, featureFlags: {}, featureFlagPayloads: {}, errorsWhileComputingFlags: false };
  it.each([
    ["/flags/?v=2", { token: KEY, distinct_id: "d" }, {}],
    ["/flags/?v=4", { api_key: KEY, distinct_id: "d", flag_keys_to_evaluate: ["a"] }, {}],
    ["/flags?v=2&config=true", gzipSync(text({ token: KEY })), { headers: TEXT }],
    ["/flags/?v=2&compression=base64", form(base64({ token: KEY })), { headers: FORM }],
    ["/decide/?v=3", { token: KEY }, {}],
    [`/flags/?v=2&token=${KEY}`, "", {}],
  ])("%s: there are none, and no error", async (path, value, call) => {
    const answer = await post(path, value, call);
    expect(answer.status).toBe(200);
    expect(jsonOf(answer)).toMatchObject({ ...NONE, requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    if (path.startsWith("/decide")) expect(jsonOf(answer)).toMatchObject({ sessionRecording: false });
  });

  it.each([
    ["an unknown key", { token: "nope" }, 401],
    ["no key", {}, 401],
    ["no JSON", "{", 400],
  ])("%s is refused", async (_case, value, status) => {
    expect(await refusedBy("/flags/?v=2", value)).toMatchObject({ status });
  });
});

describe("settings of posthog-js", () => {
  const get = (path: string, headers = {}) => callH1(gateway.port, path, { method: "GET", headers });

  it("switch autocapture on and everything else off", async () => {
    const answer = await get(`/array/${KEY}/config`, { origin: ORIGIN });
    expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([200, ORIGIN]);
    expect(jsonOf(answer)).toMatchObject({
      ...{ token: KEY, autocapture_opt_out: false, hasFeatureFlags: false, elementsChainAsString: true },
      ...{ sessionRecording: false, surveys: null, heatmaps: false, capturePerformance: false, siteApps: [] },
      ...{ supportedCompression: ["gzip-js"], analytics: { endpoint: "/i/v0/e/" } },
    });
  });

  it.each([KEY, 'a"]', "<b>\\", "__proto__"])("are a script as well, for the key %s", async (key) => {
    const answer = await get(`/array/${encodeURIComponent(key)}/config.js`);
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "text/javascript; charset=utf-8"]);
    const window = {} as { _POSTHOG_REMOTE_CONFIG?: Record<string, { config: object }> };
    new Function("window", answer.text)(window);
    expect(window._POSTHOG_REMOTE_CONFIG?.[key]?.config).toMatchObject({ hasFeatureFlags: false });
  });

  it.each([
    "/array//config",
    `/array/${"k".repeat(300)}/config`,
    "/array/a/b/config",
    "/static/array.js",
    "/array/k/array.js",
  ])("%s is 404", async (path) => {
    expect((await get(path)).status).toBe(404);
  });
});

describe("what browsers are told", () => {
  const paths = ["/e/", "/i/v0/e/", "/batch", "/flags/", "/s/", "/i/v1/analytics/events", `/array/${KEY}/config`];
  it.each(paths)("%s: a preflight of a listed origin is granted, another is 404", async (path) => {
    const ask = { "access-control-request-method": "POST", "access-control-request-headers": "authorization" };
    const granted = await callH1(gateway.port, path, { method: "OPTIONS", headers: { ...ask, origin: ORIGIN } });
    expect([granted.status, granted.headers["access-control-allow-origin"]]).toEqual([204, ORIGIN]);
    expect(granted.headers["access-control-allow-headers"]).toMatch(/\bauthorization\b.*\bposthog-sdk-info\b/);
    const other = await callH1(gateway.port, path, {
      method: "OPTIONS",
      headers: { ...ask, origin: "https://o.example" },
    });
    expect([other.status, other.headers["access-control-allow-origin"]]).toEqual([404, undefined]);
  });

  it("errors are readable by pages of listed origins", async () => {
    const answer = await post("/e/", "{", { headers: { ...TEXT, origin: ORIGIN } });
    expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([400, ORIGIN]);
  });
});

it("recordings are refused in the way that ends them, and not read", async () => {
  const answer = await post("/s/?compression=gzip-js", Buffer.alloc(1000));
  expect([answer.status, jsonOf(answer)]).toEqual([200, { status: 1, quota_limited: ["recordings"] }]);
});

it.each(["/e/", "/flags/", "/s/", "/i/v1/analytics/events"])("GET %s is 405", async (path) => {
  const answer = await callH1(gateway.port, path, { method: "GET" });
  expect([answer.status, answer.headers.allow]).toEqual([405, "POST"]);
});
