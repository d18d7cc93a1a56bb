// capture() of @millrace/client in any weather: nothing is lost, nothing is sent under two ids.
import { expect, it, vi } from "vitest";
import { RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { createClient } from "../../sdk/node/src/index.ts";
import { captureMany, FAST, names, scene } from "../kit/client-scene.ts";
import { startScriptedGateway } from "../kit/scripted-gateway.ts";

it("sends what was captured, with all its fields", async () => {
  await using s = await scene([]);
  const time = new Date("2026-03-01T10:20:30.456Z");
  const id = "0190a8f0-1111-7abc-8def-000000000001";
  const long = "ä".repeat(60);
  expect(s.client.capture({ event: "bought", distinctId: long, source: "api", value: -2.5, time, id })).toBe(true);
  s.client.capture({
    event: "old",
    time: -1.5,
    properties: { nested: { list: [1, "ü", null] }, text: "x".repeat(20_000) },
  });
  s.client.capture({ event: "now", properties: new Date() as unknown as object });
  const before = Date.now();
  s.client.capture({ event: "now" });
  expect(await s.client.flush()).toBe(true);
  const [bought, old, now] = s.gateway.taken;
  expect(bought).toMatchObject({ event: "bought", distinctId: long, source: "api", value: -2.5, id });
  expect(bought?.time).toMatchObject({
    seconds: BigInt(Date.parse("2026-03-01T10:20:30Z") / 1000),
    nanos: 456_000_000,
  });
  expect(old?.time).toMatchObject({ seconds: -1n, nanos: 998_500_000 });
  expect(JSON.parse(old?.propertiesKind.value as string)).toEqual({
    nested: { list: [1, "ü", null] },
    text: "x".repeat(20_000),
  });
  expect(old?.id).toMatch(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  expect(Number(now?.time?.seconds)).toBeGreaterThanOrEqual(Math.floor(before / 1000));
  // A Date becomes text, and that is no object.
  expect(s.dropped).toMatchObject([{ reason: "invalid", event: { message: "properties must become a JSON object" } }]);
});

it("asks for one request in flight, and batches what comes meanwhile", async () => {
  await using s = await scene([]);
  captureMany(s.client, 2_500);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(names(2_500));
  expect(s.gateway.requests.map(({ request }) => request.events.length)).toEqual([1_000, 1_000, 500]);
  expect(s.client.counters()).toMatchObject({ accepted: 2_500, sent: 2_500, queued: 0, retried: 0 });
});

it("keeps ids through 500, 503 and garbage, and stores each event once", async () => {
  const html = { status: 500, headers: { "content-type": "text/html" }, body: "<h1>oops</h1>" };
  const garbage = { status: 200, headers: { "content-type": "application/proto" }, body: "\u0001\u0002garbage" };
  await using s = await scene([html, { status: 503 }, garbage]);
  captureMany(s.client, 10);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(names(10));
  const ids = s.gateway.requests.map(({ request }) => request.events.map(({ id }) => id).join());
  expect(ids).toHaveLength(4);
  expect(new Set(ids).size).toBe(1);
  expect(s.client.counters().retried).toBe(3);
  expect(s.errors).toHaveLength(3);
});

it("an answer lost after the events were taken repeats them under their own ids", async () => {
  await using s = await scene(["take and cut"]);
  captureMany(s.client, 5);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.taken).toHaveLength(10);
  expect(new Set(s.gateway.taken.map(({ id }) => id)).size).toBe(5);
  expect(s.client.counters()).toMatchObject({ sent: 5, queued: 0 });
});

it("waits as long as Retry-After says", async () => {
  await using s = await scene([
    { status: 429, headers: { "retry-after": "1" } },
    { status: 503, headers: { "retry-after": new Date(Date.now() + 2_000).toUTCString() } },
  ]);
  captureMany(s.client, 1);
  expect(await s.client.flush()).toBe(true);
  const [first, second] = s.gateway.requests.map(({ at }) => at) as [number, number, number];
  expect(second - first).toBeGreaterThanOrEqual(995);
  expect(s.gateway.takenNames()).toEqual(["e0"]);
});

it("gives up a request that hangs and sends it again", async () => {
  await using s = await scene(["hang"], { requestTimeoutMs: 500 });
  captureMany(s.client, 3);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(names(3));
});

it("a 413 splits the request until it fits and loses no half", async () => {
  await using gateway = await startScriptedGateway(({ bytes }) => (bytes > 3_000 ? { status: 413 } : "take"));
  const dropped: string[] = [];
  await using client = createClient({
    url: gateway.url,
    ...FAST,
    onDrop: (reason, events) => dropped.push(...events.map(({ event }) => `${reason} ${event.event}`)),
  });
  captureMany(client, 200);
  client.capture({ event: "whale", properties: { blob: "x".repeat(4_000) } });
  captureMany(client, 200, 200);
  expect(await client.flush()).toBe(true);
  expect(gateway.takenNames()).toEqual(names(400));
  expect(dropped).toEqual(["rejected whale"]);
  expect(client.counters()).toMatchObject({ sent: 400, dropped: { rejected: 1 }, queued: 0 });
});

it("of a partial failure only what is retryable goes again, and what is refused is named", async () => {
  const reject = (index: number, retryable: boolean) => ({
    index,
    code: retryable ? RejectionCode.UNAVAILABLE : RejectionCode.INVALID,
    message: retryable ? "not in time" : "is wrong",
    retryable,
  });
  await using s = await scene([
    { rejected: [reject(1, true), reject(2, false), reject(4, true)] },
    { rejected: [reject(1, false)] },
  ]);
  captureMany(s.client, 5);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.requests.map(({ request }) => request.events.map(({ event }) => event))).toEqual([
    ["e0", "e1", "e2", "e3", "e4"],
    ["e1", "e4"],
  ]);
  expect(s.gateway.takenNames()).toEqual(["e0", "e3", "e1"]);
  expect(s.dropped.map(({ reason, event }) => [reason, event.event.event, event.event.properties])).toEqual([
    ["rejected", "e2", { n: 2 }],
    ["rejected", "e4", { n: 4 }],
  ]);
});

it("one event that makes the whole request unreadable is found and refused alone", async () => {
  const unreadable = {
    status: 400,
    headers: { "content-type": "application/json" },
    body: '{"code":"invalid_argument"}',
  };
  await using gateway = await startScriptedGateway(({ request }) =>
    request.events.some(({ event }) => event === "e7") ? unreadable : "take",
  );
  await using client = createClient({ url: gateway.url, ...FAST });
  captureMany(client, 20);
  expect(await client.flush()).toBe(true);
  expect(gateway.takenNames()).toEqual(names(20).filter((name) => name !== "e7"));
  expect(client.counters().dropped.rejected).toBe(1);
});

it("a wrong key loses nothing: events wait until it is put right", async () => {
  const locked = { status: 401, headers: { "content-type": "application/json" }, body: '{"code":"unauthenticated"}' };
  await using s = await scene([locked, locked, { status: 404 }]);
  captureMany(s.client, 4);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(names(4));
});

it("a host without a name is retried, and close gives up in time and says what it dropped", async () => {
  const dropped: string[] = [];
  const errors: string[] = [];
  const client = createClient({
    url: "http://no-such-host.invalid:1",
    ...FAST,
    onDrop: (reason, events) => dropped.push(...events.map(({ event }) => `${reason} ${event.event}`)),
    onError: (error) => errors.push(error.message),
  });
  captureMany(client, 3);
  await vi.waitFor(() => expect(client.counters().retried).toBeGreaterThan(1));
  expect(await client.flush({ timeoutMs: 20 })).toBe(false);
  captureMany(client, 1, 3);
  await client.close({ timeoutMs: 20 });
  expect(dropped).toEqual(["closed e0", "closed e1", "closed e2", "closed e3"]);
  expect(client.capture({ event: "late" })).toBe(false);
  expect(client.counters()).toMatchObject({ accepted: 4, sent: 0, queued: 0, dropped: { closed: 5 } });
  expect(errors[0]).toMatch(/ENOTFOUND|EAI_AGAIN/);
});

it("several requests in flight lose and double nothing", async () => {
  await using s = await scene([{ status: 500 }, "take", "take and cut", "take"], { maxInFlight: 4, batchEvents: 100 });
  captureMany(s.client, 2_000);
  expect(await s.client.flush()).toBe(true);
  expect(new Set(s.gateway.takenNames())).toEqual(new Set(names(2_000)));
  expect(s.client.counters()).toMatchObject({ sent: 2_000, queued: 0 });
});
