// Segment's, RudderStack's and Jitsu's paths: what each request is answered, and what of it is on the log.
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid, parseUuid, uuidV5 } from "#lib/events/ids.ts";
import { JSON_TYPE, jsonOf, KEY, ORIGIN, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, type Call, callH1 } from "../kit/http-calls.ts";

/** The gateway's clock. */
const NOW = Date.parse("2026-03-27T12:00:00Z");
const NAMESPACE = parseUuid("f06a844b-030a-4022-a9cf-e55997783048") as Uint8Array;

let gateway: TestGateway;
let open: TestGateway;
beforeAll(async () => {
  const keys = { publicApiKeys: [KEY], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN] };
  gateway = await startTestGateway({ ...keys, maxEventsPerBatch: 20, maxBatchBytes: 200_000 }, () => NOW);
  open = await startTestGateway();
});
afterAll(async () => {
  for (const each of [gateway, open]) await each[Symbol.asyncDispose]();
});

const basic = (key: string) => ({ authorization: `Basic ${Buffer.from(`${key}:`).toString("base64")}` });
const TRACK = { type: "track", event: "Paid", userId: "u1", messageId: "m-1" };

function post(path: string, body: object | string | Uint8Array, headers: object = basic(KEY), port = gateway.port) {
  const bytes = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  const call: Call = { headers: { ...JSON_TYPE, ...headers }, body: bytes };
  return callH1(port, path, call);
}

/** What the call put on the log, and its answer. */
async function storedBy(call: () => Promise<Answer>, of = gateway) {
  const before = (await of.stored()).length;
  const answer = await call();
  const events = (await of.events()).slice(before).map(({ propertiesJson, ...event }) => ({
    ...event,
    properties: JSON.parse(Buffer.from(propertiesJson).toString()) as Record<string, unknown>,
  }));
  return { answer, events };
}

describe("one message a request", () => {
  it.each([
    ["/v1/track", "Paid"],
    ["/v1/t", "Paid"],
    ["/v1/page", "$pageview"],
    ["/v1/p", "$pageview"],
    ["/v1/screen", "$screen"],
    ["/v1/s", "$screen"],
    ["/v1/identify", "$identify"],
    ["/v1/i", "$identify"],
    ["/v1/group", "$groupidentify"],
    ["/v1/g", "$groupidentify"],
    ["/v1/alias", "$create_alias"],
    ["/v1/a", "$create_alias"],
  ])("POST %s is a %s", async (path, name) => {
    const message = { event: "Paid", userId: "u1", groupId: "g", previousId: "old", messageId: `m${path}` };
    const { answer, events } = await storedBy(() => post(path, message));
    expect([answer.status, jsonOf(answer)]).toEqual([200, { success: true }]);
    expect(events).toMatchObject([{ event: name, distinctId: "u1", apiKey: KEY, idFromCaller: true }]);
  });

  it.each([
    ["/api/s/track", "Paid"],
    ["/api/s/page", "$pageview"],
    ["/api/s/s2s/identify", "$identify"],
    ["/api/s/event", "Paid"],
  ])("POST %s is a %s", async (path, name) => {
    const headers = { "x-write-key": KEY };
    const { answer, events } = await storedBy(() => post(path, { ...TRACK, writeKey: "pub-k:***" }, headers));
    expect([answer.status, jsonOf(answer)]).toEqual([200, { ok: true }]);
    expect(events).toMatchObject([{ event: name, apiKey: KEY }]);
  });
});

describe("the key", () => {
  it.each([
    ["Basic", basic(KEY), {}],
    ["Basic without a colon", { authorization: `Basic ${Buffer.from(KEY).toString("base64")}` }, {}],
    ["Bearer", { authorization: `Bearer ${KEY}` }, {}],
    ["x-write-key", { "x-write-key": KEY }, {}],
    ["x-write-key, named", { "x-write-key": `web:${KEY}` }, { writeKey: "web:***" }],
    ["writeKey in the body", {}, { writeKey: KEY }],
    ["writeKey in the body, with blanks", {}, { writeKey: ` ${KEY}\n` }],
    ["another one in the body than in the header, which counts", basic(KEY), { writeKey: SECRET }],
  ])("is taken from %s", async (_case, headers, body) => {
    for (const path of ["/v1/track", "/v1/batch"]) {
      const message = path === "/v1/batch" ? { batch: [TRACK], ...body } : { ...TRACK, ...body };
      const { answer, events } = await storedBy(() => post(path, message, headers));
      expect([answer.status, answer.text]).toEqual([200, '{"success":true}']);
      expect(events).toMatchObject([{ apiKey: KEY, trusted: false }]);
    }
  });

  it.each([
    ["absent", {}, {}],
    ["unknown", basic("who"), { writeKey: KEY }],
    ["unknown in the body", {}, { writeKey: "who" }],
    ["the name of one", { "x-write-key": `${KEY}:who` }, {}],
    ["masked", {}, { writeKey: "pub-k:***" }],
    ["absent, from a page of ours", { origin: ORIGIN }, {}],
  ])("that is %s is 401 with code and message", async (_case, headers, body) => {
    const { answer, events } = await storedBy(() => post("/v1/batch", { batch: [TRACK], ...body }, headers));
    expect([answer.status, jsonOf(answer), events]).toEqual([
      401,
      { code: "key", message: expect.stringContaining("api key") as string },
      [],
    ]);
  });

  it("is not asked for where none is set", async () => {
    const { answer, events } = await storedBy(() => post("/v1/batch", { batch: [TRACK] }, {}, open.port), open);
    expect([answer.status, events.length]).toEqual([200, 1]);
  });

  it("of a page is taken from a listed Origin alone, and its preflight is answered", async () => {
    const headers = { origin: ORIGIN, "access-control-request-method": "POST" };
    for (const path of ["/v1/t", "/api/s/track", "/v1/projects/k/settings", "/sourceConfig/"]) {
      const asked = await callH1(gateway.port, path, { method: "OPTIONS", headers });
      expect([asked.status, asked.headers["access-control-allow-origin"]]).toEqual([204, ORIGIN]);
      const allowed = asked.headers["access-control-allow-headers"]?.split(", ");
      expect(allowed).toEqual(
        expect.arrayContaining(["authorization", "content-type", "x-write-key", "x-retry-count"]),
      );
    }
    const answer = await post("/v1/t", TRACK, { ...basic(KEY), origin: ORIGIN, "content-type": "text/plain" });
    expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([200, ORIGIN]);
    expect((await post("/v1/t", TRACK, { ...basic(KEY), origin: "https://other.example" })).status).toBe(403);
  });
});

describe("ids and times", () => {
  it("an id is a UUIDv5 of key and message id, so that a message sent again is the same event", async () => {
    const { events } = await storedBy(async () => {
      await post("/v1/batch", { batch: [TRACK, { ...TRACK, messageId: "m-2" }] });
      return post("/v1/track", TRACK);
    });
    const ids = events.map(({ id }) => formatUuid(id));
    expect(ids).toEqual([ids[0], formatUuid(uuidV5(NAMESPACE, `${KEY} m-2`)), ids[0]]);
    expect(events[0]?.properties).toEqual({ messageId: "m-1" });
  });

  it("without a message id the event has a new one", async () => {
    const { messageId: _, ...message } = TRACK;
    const { events } = await storedBy(() => post("/v1/batch", { batch: [message, message] }));
    expect(events.map(({ idFromCaller }) => idFromCaller)).toEqual([false, false]);
  });

  it.each([
    // The clock is 1 h behind: what happened 5 s before the request was sent happened 5 s before it came.
    ["by the envelope's sentAt", { timestamp: "2026-03-27T10:59:55.000Z" }, { sentAt: "2026-03-27T11:00:00Z" }, -5000],
    [
      "by the message's own, first",
      { timestamp: "2026-03-27T10:59:55.000Z", sentAt: "2026-03-27T11:00:00.250Z" },
      { sentAt: "2026-03-27T09:00:00Z" },
      -5250,
    ],
    [
      "from originalTimestamp",
      { originalTimestamp: "2026-03-27T10:59:50.000Z" },
      { sentAt: "2026-03-27T11:00:00Z" },
      -10_000,
    ],
  ])("a time is corrected %s, and the original kept", async (_case, times, envelope, ms) => {
    const { events } = await storedBy(() => post("/v1/batch", { batch: [{ ...TRACK, ...times }], ...envelope }));
    const originalTime = "originalTimestamp" in times ? times.originalTimestamp : times.timestamp;
    expect(events).toMatchObject([{ timeUs: BigInt(NOW + ms) * 1000n, originalTime }]);
  });

  it.each([
    ["there is no sentAt", "/v1/batch", {}],
    ["sentAt is not a time", "/v1/batch", { sentAt: "now" }],
    ["it is an import", "/v1/import", { sentAt: "2026-03-27T11:00:00Z" }],
    ["it stands beside originalTimestamp", "/v1/batch", { sentAt: "2026-03-27T11:00:00Z" }],
    ["the clock cannot be believed", "/v1/batch", { sentAt: "1970-01-01T00:00:00Z" }],
  ])("a time stays as it is where %s", async (why, path, envelope) => {
    const timestamp = "2026-03-26T10:00:00.000+00:00";
    const beside = why.includes("beside") ? { originalTimestamp: "2026-03-27T10:59:50Z" } : {};
    const { events } = await storedBy(() => post(path, { batch: [{ ...TRACK, timestamp, ...beside }], ...envelope }));
    const us = BigInt(Date.parse("2026-03-26T10:00:00Z")) * 1000n;
    expect(events).toMatchObject([{ timeUs: us, originalTime: "", checkStored: path === "/v1/import" }]);
  });
});

describe("bodies", () => {
  const good = { ...TRACK, messageId: "beside" };
  it.each([
    [
      "JSON that is said to be a form, compressed, as RudderStack's Node client sends it",
      "application/x-www-form-urlencoded",
      gzipSync,
      "gzip",
    ],
    ["JSON that is said to be text", "text/plain;charset=UTF-8", Buffer.from, "identity"],
    ["JSON without a type", "", Buffer.from, "identity"],
  ])("%s", async (_case, type, pack, encoding) => {
    const headers = { ...basic(KEY), "content-type": type, "content-encoding": encoding };
    const { answer, events } = await storedBy(() =>
      post("/v1/batch", pack(JSON.stringify({ batch: [TRACK] })), headers),
    );
    expect([answer.status, events.length]).toEqual([200, 1]);
  });

  it.each([
    ["an address that is a number", { page: { url: 12345 } }, { $current_url: 12345 }, { currentUrl: "", host: "" }],
    ["a host that is a number", { page: { host: 8080 } }, { $host: 8080 }, { currentUrl: "", host: "" }],
    [
      "a session that is a number",
      { sessionId: 1700000000 },
      { $session_id: "1700000000" },
      { sessionId: "1700000000" },
    ],
  ])("of %s the digits are a property", async (_case, context, properties, lifted) => {
    const message = { ...TRACK, messageId: "digits", context };
    const { answer, events } = await storedBy(() => post("/v1/batch", { batch: [message, good] }));
    expect([answer.status, jsonOf(answer)]).toEqual([200, { success: true }]);
    expect(events).toMatchObject([{ properties: { ...properties, context }, ...lifted }, { event: "Paid" }]);
  });

  it("an empty text stands for nothing", async () => {
    const originalTimestamp = "2026-03-27T11:00:00Z";
    const message = { ...TRACK, timestamp: "", originalTimestamp, groupId: "", context: { groupId: "g" } };
    const { events } = await storedBy(() => post("/v1/batch", { batch: [message] }));
    expect(events).toMatchObject([{ timeUs: BigInt(Date.parse(originalTimestamp)) * 1000n }]);
    expect(events[0]?.properties.$groups).toEqual({ group: "g" });
  });

  it.each([
    ["an unknown type", { ...TRACK, type: "trak" }, { code: "invalid", field: "type" }],
    ["no type", { event: "e", userId: "u" }, { code: "missing", field: "type" }],
    ["no user", { type: "track", event: "e" }, { code: "missing", field: "userId" }],
    ["a blank user", { type: "track", event: "e", userId: " ", anonymousId: "" }, { code: "missing", field: "userId" }],
    ["no name", { ...TRACK, event: "" }, { code: "missing", field: "event" }],
    ["a name of 300 bytes", { ...TRACK, event: "e".repeat(300) }, { code: "too_large", field: "event" }],
    ["a user of 2 KB", { ...TRACK, userId: "u".repeat(2000) }, { code: "too_large", field: "userId" }],
    ["properties that are a list", { ...TRACK, properties: [] }, { code: "invalid", field: "properties" }],
    ["a context that is a text", { ...TRACK, context: "x" }, { code: "invalid", field: "context" }],
    ["a message id that is an object", { ...TRACK, messageId: {} }, { code: "invalid", field: "messageId" }],
    ["a time that is not one", { ...TRACK, timestamp: "yesterday" }, { code: "invalid", field: "timestamp" }],
    ["a number", 5, { code: "invalid", field: "" }],
    ["null", null, { code: "invalid", field: "" }],
    [
      "a context of many levels",
      { ...TRACK, context: JSON.parse(`${'{"a":'.repeat(40)}1${"}".repeat(40)}`) as object },
      { code: "too_complex" },
    ],
    [
      "many properties",
      { ...TRACK, properties: Object.fromEntries(Array.from({ length: 1001 }, (_, n) => [`k${n}`, n])) },
      { code: "too_complex" },
    ],
  ])("a batch with %s stores its neighbours and names it", async (_case, bad, rejected) => {
    const { answer, events } = await storedBy(() => post("/v1/batch", { batch: [bad, good] }));
    expect(answer.status).toBe(200);
    expect(jsonOf(answer)).toMatchObject({ success: true, accepted: 1, rejected: [{ index: 0, ...rejected }] });
    expect(events.map(({ properties }) => properties.messageId)).toEqual(["beside"]);
    const alone = await post("/v1/batch", { batch: [bad] });
    expect([alone.status, jsonOf(alone)]).toMatchObject([200, { accepted: 0 }]);
    expect(jsonOf(alone)).not.toHaveProperty("success");
  });

  it.each([
    ["/v1/track", { userId: "u" }, 400, { code: "invalid", message: expect.stringContaining("event: ") as string }],
    ["/api/s/trak", { userId: "u" }, 400, { code: "invalid", message: expect.stringContaining("type: ") as string }],
    [
      "/v1/batch",
      "[]",
      400,
      { code: "invalid", message: expect.stringContaining("body: must be an object") as string },
    ],
    ["/v1/batch", "{}", 400, { code: "invalid", message: expect.stringContaining("batch: ") as string }],
    ["/v1/batch", { batch: {} }, 400, { code: "invalid" }],
    ["/v1/batch", '{"batch":[', 400, { code: "body_invalid" }],
    ["/v1/batch", '{"batch":[],"batch":[]}', 400, { code: "invalid" }],
    ["/v1/batch", "", 400, { code: "body_invalid" }],
    ["/v1/batch", { batch: [] }, 200, { success: true }],
    ["/v1/batch", { batch: Array(21).fill(TRACK) }, 413, { code: "too_many" }],
    ["/v1/batch", `{"batch":[${" ".repeat(200_000)}]}`, 413, { code: "body_too_large" }],
    ["/v1/batch", Buffer.from([0xff, 0xfe, 0x7b]), 400, { code: "body_invalid" }],
    ["/v1/batch", "ZGF0YQ==", 400, { code: "body_invalid" }],
    ["/v1/unknown", { batch: [TRACK] }, 404, { statusCode: 404 }],
  ])("POST %s of %j is %i", async (path, body, status, expected) => {
    const { answer, events } = await storedBy(() => post(path, body));
    expect([answer.status, jsonOf(answer), events]).toMatchObject([status, expected, []]);
  });

  const body = JSON.stringify({ batch: [TRACK] });
  it.each([
    ["gzip of gzip", gzipSync(gzipSync(body)), { "content-encoding": "gzip" }, 400],
    ["another encoding than is named", gzipSync(body), { "content-encoding": "br" }, 400],
    ["an encoding that is not ours", gzipSync(body), { "content-encoding": "lzma" }, 415],
    ["half of gzip", gzipSync(body).subarray(0, 30), { "content-encoding": "gzip" }, 400],
    ["another charset", body, { "content-type": "application/json; charset=utf-16" }, 415],
    ["another type", body, { "content-type": "text/csv" }, 415],
  ])("%s is refused with code and message", async (_case, bytes, headers, status) => {
    const { answer, events } = await storedBy(() => post("/v1/batch", bytes, { ...basic(KEY), ...headers }));
    expect([answer.status, events]).toEqual([status, []]);
    expect(jsonOf(answer)).toEqual({ code: expect.any(String) as string, message: expect.any(String) as string });
  });

  it("a message id of 10 KB is one like others", async () => {
    const message = { ...TRACK, messageId: "m".repeat(10_000) };
    const { events } = await storedBy(() => post("/v1/batch", { batch: [message, message] }));
    expect(events.map(({ id }) => formatUuid(id))).toEqual(
      Array(2).fill(formatUuid(uuidV5(NAMESPACE, `${KEY} ${message.messageId}`))),
    );
  });

  it("the log away is 503 with Retry-After, and nothing is acknowledged", async () => {
    gateway.appendBy(() => Promise.reject(new Error("away")));
    const answer = await post("/v1/batch", { batch: [TRACK] });
    gateway.appendBy(undefined);
    expect([answer.status, Number(answer.headers["retry-after"]) > 0]).toEqual([503, true]);
    expect(jsonOf(answer)).toEqual({ code: "log_away", message: expect.stringContaining("messageIds") as string });
  });

  it("other methods are 405", async () => {
    expect((await callH1(gateway.port, "/v1/batch", { method: "GET", headers: basic(KEY) })).status).toBe(405);
  });
});

describe("what browsers' clients ask first", () => {
  it("Segment's settings name this host", async () => {
    const answer = await callH1(gateway.port, "/v1/projects/k%22/settings", {
      method: "GET",
      headers: { host: "m.example:81" },
    });
    expect(jsonOf(answer)).toMatchObject({
      integrations: { "Segment.io": { apiKey: 'k"', apiHost: "m.example:81/v1", protocol: "http" } },
      plan: { track: { __default: { enabled: true } } },
    });
    const behind = { host: "m.example", "x-forwarded-proto": "https" };
    const tls = await callH1(gateway.port, "/v1/projects/k/settings", { method: "GET", headers: behind });
    expect(jsonOf(tls)).toMatchObject({ integrations: { "Segment.io": { protocol: "https" } } });
  });

  it("RudderStack's source has no destinations", async () => {
    const answer = await callH1(gateway.port, "/sourceConfig/?writeKey=k&p=npm", { method: "GET" });
    expect(jsonOf(answer)).toMatchObject({ source: { enabled: true, writeKey: "k", destinations: [] } });
    expect((await callH1(gateway.port, "/sourceConfig/", {})).status).toBe(405);
    expect((await callH1(gateway.port, "/sourceConfig/", { method: "HEAD" })).status).toBe(200);
  });
});

it("paths of protocols that are not taken are 404 in a shape that their clients read", async () => {
  const call = (path: string, type = "application/json") =>
    callH1(gateway.port, path, { headers: { "content-type": type } });
  const otlp = await call("/v1/logs");
  expect([otlp.status, jsonOf(otlp)]).toEqual([404, { code: 12, message: expect.stringContaining("OTLP") as string }]);
  const protobuf = await call("/v1/metrics", "application/x-protobuf");
  const { message } = jsonOf(otlp) as { message: string };
  expect(protobuf.headers["content-type"]).toBe("application/x-protobuf");
  // google.rpc.Status: code is field 1, message field 2.
  expect(protobuf.body).toEqual(Buffer.concat([Buffer.of(0x08, 12, 0x12, message.length), Buffer.from(message)]));
  const prometheus = await call("/api/v1/write", "application/x-protobuf");
  expect([prometheus.status, prometheus.text]).toEqual([404, expect.stringMatching(/^Prometheus remote write.*\n$/)]);
  for (const path of ["/write?db=x", "/api/v2/write?org=o&bucket=b"]) {
    expect(jsonOf(await call(path))).toMatchObject({
      code: "not found",
      message: expect.any(String),
      error: expect.any(String),
    });
  }
  for (const path of ["/groups", "/import?strict=1"]) {
    expect(jsonOf(await call(path))).toMatchObject({ status: 0, code: 404, error: expect.any(String) });
  }
});
