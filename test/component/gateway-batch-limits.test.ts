// What is too much for /batch/: events over the limits, hostile bodies, more events a second than a key may send.
import zlib from "node:zlib";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { EVENT, JSON_TYPE, jsonOf, KEY, ORIGIN, postBatch, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const properties = (value: unknown) => ({ ...EVENT, properties: value });
const nested = (levels: number) => JSON.parse(`${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`) as unknown;
const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i]));

describe("an event over the limits is counted as dropped, and its neighbours are stored", () => {
  it.each([
    ["a distinct id of 64 KB", { ...EVENT, distinct_id: "d".repeat(65_536) }, "distinct_id: has 65536 bytes"],
    ["a long name", { ...EVENT, event: "é".repeat(101) }, "event: has 202 bytes"],
    ["1,001 keys", properties(keys(1001)), "properties: has more than 1000 keys"],
    ["$set with 10,000 keys", properties({ $set: keys(10_000) }), "properties: has more than 1000 keys"],
    ["33 levels", properties(nested(33)), "properties.a.a.a: is nested deeper"],
    ["1 MB of properties", properties({ a: "x".repeat(1_000_000) }), "properties: has 1000008 bytes"],
    ["properties that leave no room for the rest", properties({ a: "x".repeat(899_980) }), "event: has 9000"],
  ])("%s", async (_case, event, reason) => {
    await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
    const answer = await postBatch(gateway.port, [EVENT, { event: "e" }, event, EVENT]);
    const { rejected, ...counts } = jsonOf(answer) as { rejected: { field: string; message: string }[] };
    expect(counts).toEqual({ status: "ok", ingested: 2, dropped: 2 });
    expect(rejected).toEqual([
      { index: 2, code: expect.stringMatching(/^too_/), field: expect.anything(), message: expect.anything() },
    ]);
    expect(`${rejected[0]?.field}: ${rejected[0]?.message}`).toContain(reason);
    expect((await gateway.stored()).length).toBe(2);
    const [line = "{}"] = gateway.lines.filter((each) => each.includes("invalid events dropped"));
    expect(JSON.parse(line)).toMatchObject({
      dropped: 1,
      events: [{ index: 2, reason: expect.stringContaining(reason) }],
    });
  });

  it("and is logged once a second at most, ten of a request", async () => {
    await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
    const bad = Array.from({ length: 20 }, () => ({ ...EVENT, event: "x".repeat(201) }));
    for (let i = 0; i < 5; i++) {
      expect(jsonOf(await postBatch(gateway.port, bad))).toMatchObject({ status: "ok", ingested: 0, dropped: 20 });
    }
    const lines = gateway.lines.filter((each) => each.includes("invalid events dropped"));
    // Five requests take less than a second, but not on every machine.
    expect(lines.length).toBeLessThan(5);
    const logged = JSON.parse(lines[0] ?? "{}") as { dropped: number; events: { index: number }[] };
    expect([logged.dropped, logged.events.map(({ index }) => index)]).toEqual([20, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]);
  });
});

describe("a hostile body is answered and costs nobody else", () => {
  it("50 MB in 50 KB of gzip is 413 without being unpacked", async () => {
    await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
    const body = zlib.gzipSync(Buffer.alloc(50_000_000, 0x20));
    const answer = await callH1(gateway.port, "/batch/", {
      headers: { ...JSON_TYPE, "content-encoding": "gzip" },
      body,
    });
    expect(answer.status).toBe(413);
    expect((await postBatch(gateway.port, [EVENT])).status).toBe(200);
  });

  it("20 MB of distinct keys are one event dropped", async () => {
    await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
    const pairs = Array.from({ length: 1_400_000 }, (_, i) => `"k${i}":${i % 10}`);
    const body = `{"api_key":"${KEY}","batch":[{"event":"e","distinct_id":"d","properties":{${pairs.join()}}},${JSON.stringify(EVENT)}]}`;
    expect(body.length).toBeGreaterThan(15_000_000);
    const answer = await callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body });
    expect(answer.status).toBe(200);
    expect(jsonOf(answer)).toMatchObject({ ingested: 1, dropped: 1, rejected: [{ index: 0, code: "too_complex" }] });
  });

  it.each([
    ["50,000 levels of arrays", "[".repeat(50_000) + "]".repeat(50_000)],
    ["50,000 levels of objects, with escapes", `${'{"\\u0061":'.repeat(50_000)}1${"}".repeat(50_000)}`],
  ])("%s are no stack overflow", async (_case, value) => {
    await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
    const body = `{"api_key":"${KEY}","batch":[{"event":"e","distinct_id":"d","properties":{"a":${value}}}],"x":${value}}`;
    const answer = await callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body });
    expect(answer.status).toBe(200);
    expect(jsonOf(answer)).toMatchObject({ ingested: 0, dropped: 1, rejected: [{ index: 0, code: "too_complex" }] });
  });
});

it("part of a request stored and part not is 503: with uuids it may be sent again whole", async () => {
  await using gateway = await startTestGateway({ publicApiKeys: [KEY] });
  // More than one append takes; the second fails.
  gateway.appendBy((_records, real) => (gateway.appends.length === 1 ? real() : Promise.reject(new Error("away"))));
  const answer = await postBatch(
    gateway.port,
    Array.from({ length: 3000 }, () => EVENT),
  );
  expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
  expect((await gateway.stored()).length).toBe(2000);
});

it("takes so many events with check_stored from an address, and any number with a secret key", async () => {
  await using gateway = await startTestGateway({ publicApiKeys: [KEY], secretApiKeys: [SECRET] });
  const events = Array.from({ length: 10_000 }, () => ({ event: "e", distinct_id: "d" }));
  const flagged = { check_stored: true };
  expect((await postBatch(gateway.port, events, flagged)).status).toBe(200);
  const answer = await postBatch(gateway.port, events, flagged);
  expect(answer.status).toBe(429);
  expect(Number(answer.headers["retry-after"])).toBeGreaterThan(50);
  expect(jsonOf(answer)).toMatchObject({ error: expect.stringContaining("more events with check_stored") });
  expect((await postBatch(gateway.port, events)).status).toBe(200);
  expect((await postBatch(gateway.port, events, { ...flagged, api_key: SECRET })).status).toBe(200);
  expect((await gateway.stored()).length).toBe(30_000);
});

describe("RATE_LIMIT_EVENTS", () => {
  const limited = () =>
    startTestGateway({
      ...{ publicApiKeys: [KEY, "other"], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN] },
      ...{ rateLimitEvents: 1, rateLimitBurst: 10, trustedProxies: ["loopback"] },
    });

  it("refuses a key's events over the burst with 429 and the seconds to wait, and counts them", async () => {
    await using gateway = await limited();
    const ten = Array.from({ length: 10 }, () => EVENT);
    expect((await postBatch(gateway.port, ten)).status).toBe(200);
    const answer = await postBatch(gateway.port, ten);
    expect(answer.status).toBe(429);
    expect(Number(answer.headers["retry-after"])).toBeGreaterThanOrEqual(9);
    expect(Object.keys(jsonOf(answer) as object)).toEqual(["status", "error"]);
    expect((await gateway.stored()).length).toBe(10);
    expect(await gateway.metric("millrace_rate_limited_events_total", { dialect: "batch" })).toBe(10);
    expect((await postBatch(gateway.port, ten, { api_key: "other" })).status).toBe(200);
  });

  it("lets a request larger than the burst in once", async () => {
    await using gateway = await limited();
    expect(
      (
        await postBatch(
          gateway.port,
          Array.from({ length: 50 }, () => EVENT),
        )
      ).status,
    ).toBe(200);
    const answer = await postBatch(gateway.port, [EVENT]);
    expect([answer.status, Number(answer.headers["retry-after"]) > 30]).toEqual([429, true]);
  });

  it("counts callers without a key by their address", async () => {
    await using gateway = await limited();
    const from = (address: string) => ({ origin: ORIGIN, "x-forwarded-for": address });
    const send = (address: string) =>
      postBatch(
        gateway.port,
        Array.from({ length: 10 }, () => EVENT),
        { api_key: undefined },
        from(address),
      );
    expect((await send("203.0.113.1")).status).toBe(200);
    expect((await send("203.0.113.1")).status).toBe(429);
    expect((await send("203.0.113.2")).status).toBe(200);
  });

  it("holds for POST /events and RPCs alike, out of one bucket", async () => {
    await using gateway = await limited();
    const client = createClient(EventService, createGrpcTransport({ baseUrl: gateway.url }));
    const headers = { "x-api-key": SECRET };
    await client.publish({ events: Array.from({ length: 10 }, () => ({ event: "e" })) }, { headers });
    const refused = client.publish({ events: [{ event: "e" }] }, { headers });
    await expect(refused).rejects.toMatchObject({ code: Code.ResourceExhausted });
    await refused.catch((error: { metadata: Headers }) => expect(error.metadata.get("retry-after")).toBe("1"));
    const body = '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}';
    const single = await callH1(gateway.port, "/events", { headers: { ...JSON_TYPE, ...headers }, body });
    expect([single.status, single.headers["retry-after"]]).toEqual([429, "1"]);
    const metric = (dialect: string) => gateway.metric("millrace_rate_limited_events_total", { dialect });
    expect([await metric("grpc"), await metric("events")]).toEqual([1, 1]);
  });
});
