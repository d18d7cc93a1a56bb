// Too much at once, and an event log that does not take what it is given.
import zlib from "node:zlib";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EventService, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { LogUnavailableError, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, callH1, connectH2, exchangeRaw } from "../kit/http-calls.ts";

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const JSON_TYPE = { "content-type": "application/json" };
const EVENT = { event_type: "e", source: "s", created_at: "2026-03-27T12:00:00Z" };
const BOUND = 1024 * 1024;

let gateway: TestGateway;
beforeEach(async () => {
  gateway = await startTestGateway({ maxBytesInFlight: BOUND });
});
afterEach(async () => {
  await expect.poll(() => inFlight()).toBe(0);
  await gateway[Symbol.asyncDispose]();
});

const inFlight = () => gateway.metric("millrace_gateway_in_flight_bytes");

/** Holds every append back until the returned function is called. */
function holdAppends(): () => void {
  const held = Promise.withResolvers<void>();
  gateway.appendBy(async (_records, real) => {
    await held.promise;
    return real();
  });
  return () => {
    gateway.appendBy(undefined);
    held.resolve();
  };
}

function postSized(bytes: number): Promise<Answer> {
  const body = JSON.stringify({ ...EVENT, pad: "x".repeat(bytes) });
  return callH1(gateway.port, "/events", { headers: JSON_TYPE, body });
}

function publishTiny(events: number): Promise<Answer> {
  const body = JSON.stringify({ events: Array.from({ length: events }, () => ({ event: "e" })) });
  return callH1(gateway.port, PUBLISH, { headers: JSON_TYPE, body });
}

describe("with as many bytes in flight as there may be", () => {
  let release: () => void;
  let first: Promise<Answer>;
  beforeEach(async () => {
    release = holdAppends();
    first = postSized(800_000);
    await expect.poll(() => gateway.appends.length).toBe(1);
  });
  afterEach(async () => {
    release();
    expect((await first).status).toBe(200);
  });

  it("POST /events is answered 503 with Retry-After before its body has come", async () => {
    const head = `POST /events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n`;
    expect(await exchangeRaw(gateway.port, head)).toMatch(/^HTTP\/1\.1 503 .*retry-after: 1\r\n/s);
  });

  it("an RPC is answered resource_exhausted with Retry-After before its body has come", async () => {
    const head = `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n`;
    const answer = await exchangeRaw(gateway.port, head);
    expect(answer).toMatch(/^HTTP\/1\.1 429 .*retry-after: 1\r\n/is);
    expect(answer).toContain('"code":"resource_exhausted"');
  });

  it.each([
    ["grpc", () => createGrpcTransport({ baseUrl: gateway.url })],
    ["grpc-web", () => createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "2" })],
    ["connect", () => createConnectTransport({ baseUrl: gateway.url, httpVersion: "2" })],
  ] as const)("a %s client gets resource_exhausted and a time to retry", async (_name, transport) => {
    const client = createClient(EventService, transport());
    const value = JSON.stringify({ a: "x".repeat(300_000) });
    const events = [{ event: "e", propertiesKind: { case: "propertiesJson" as const, value } }];
    const error = await client.publish({ events }).then(
      () => undefined,
      (failure: unknown) => ConnectError.from(failure),
    );
    expect([error?.code, error?.metadata.get("retry-after")]).toEqual([Code.ResourceExhausted, "1"]);
  });

  it("a body of unknown length is refused when it becomes too much", async () => {
    const call = { headers: JSON_TYPE, body: JSON.stringify({ ...EVENT, pad: "x".repeat(300_000) }), chunked: true };
    expect((await callH1(gateway.port, "/events", call)).status).toBe(503);
    expect((await callH1(gateway.port, PUBLISH, call)).status).toBe(429);
  });

  it("a small body is refused when it unpacks to too much", async () => {
    const body = zlib.gzipSync(JSON.stringify({ ...EVENT, pad: "x".repeat(300_000) }));
    const headers = { ...JSON_TYPE, "content-encoding": "gzip" };
    expect((await callH1(gateway.port, "/events", { headers, body })).status).toBe(503);
    expect((await callH1(gateway.port, PUBLISH, { headers, body })).status).toBe(429);
  });

  it("many tiny events are refused, because they hold more than their bytes", async () => {
    expect((await publishTiny(2_000)).status).toBe(429);
  });

  it("a request that still fits is served", async () => {
    const small = postSized(1000);
    await expect.poll(() => inFlight()).toBeGreaterThan(801_000);
    release();
    expect((await small).status).toBe(200);
  });
});

it("one request alone may exceed the bound", async () => {
  expect((await publishTiny(10_000)).text).toBe('{"accepted":10000}');
  const value = (pad: number) =>
    JSON.stringify({
      events: [
        { event: "e", propertiesJson: JSON.stringify({ a: "x".repeat(pad) }) },
        ...Array.from({ length: 4 }, () => ({ event: "e", propertiesJson: JSON.stringify({ a: "x".repeat(pad) }) })),
      ],
    });
  expect((await callH1(gateway.port, PUBLISH, { headers: JSON_TYPE, body: value(400_000) })).text).toBe(
    '{"accepted":5}',
  );
});

describe("with an event log that is away", () => {
  beforeEach(() => gateway.appendBy(() => Promise.reject(new LogUnavailableError("the broker is away"))));

  it("POST /events is answered 503 with Retry-After", async () => {
    const answer = await postSized(10);
    expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
    expect(answer.text).toContain("send the request again");
  });

  it("an RPC is answered unavailable with Retry-After, over HTTP/1.1 and HTTP/2", async () => {
    using h2 = connectH2(gateway.port);
    const body = JSON.stringify({ events: [{ event: "e" }, { event: "" }] });
    const answers = [await publishTiny(3), await h2.call(PUBLISH, { headers: JSON_TYPE, body })];
    for (const answer of answers) {
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "1"]);
      expect(answer.text).toContain('"code":"unavailable"');
      expect(answer.text).not.toContain("broker");
    }
  });

  it("a stream ends with unavailable", async () => {
    const client = createClient(EventService, createGrpcTransport({ baseUrl: gateway.url }));
    async function* requests() {
      yield { sequence: 1n, events: [{ event: "e" }] };
    }
    const answers = Array.fromAsync(client.publishStream(requests()));
    await expect(answers).rejects.toMatchObject({ code: Code.Unavailable });
  });

  it("the outage is two log lines, however many requests meet it", async () => {
    for (let i = 0; i < 20; i++) await postSized(10);
    gateway.appendBy(undefined);
    for (let i = 0; i < 5; i++) expect((await postSized(10)).status).toBe(200);
    const lines = gateway.lines.filter((line) => line.includes("event log"));
    expect(lines.map((line) => (JSON.parse(line) as { level: string }).level)).toEqual(["warn", "info"]);
    expect(lines[0]).toContain("the broker is away");
  });
});

it("events of a request whose log fails in the middle are refused one by one, as retryable", async () => {
  let appends = 0;
  gateway.appendBy((_records, real) => (appends++ === 1 ? Promise.reject(new LogUnavailableError("away")) : real()));
  const client = createClient(EventService, createConnectTransport({ baseUrl: gateway.url, httpVersion: "2" }));
  const events = Array.from({ length: 5_000 }, (_, i) => ({ event: i === 10 ? "" : "e" }));
  const answer = await client.publish({ events });
  expect(answer.accepted).toBe(2_999);
  expect((await gateway.stored()).length).toBe(2_999);
  expect(answer.rejected.length).toBe(2_001);
  expect(answer.rejected[0]).toMatchObject({ index: 10, code: RejectionCode.MISSING, retryable: false });
  expect(answer.rejected.slice(1).map(({ index }) => index)).toEqual(
    Array.from({ length: 2_000 }, (_, i) => 2_001 + i),
  );
  expect(answer.rejected[1]).toMatchObject({ code: RejectionCode.UNAVAILABLE, field: "", retryable: true });
});

it("an event that the log finds too large is refused for good", async () => {
  gateway.appendBy(() => Promise.reject(new RecordTooLargeError("a record of 9 bytes")));
  const answer = await postSized(10);
  expect([answer.status, answer.text.includes("a record of 9 bytes")]).toEqual([413, true]);
});

it("requests that arrive together share appends, each device's events in order", async () => {
  const release = holdAppends();
  const first = publishTiny(1);
  await expect.poll(() => gateway.appends.length).toBe(1);
  const client = createClient(EventService, createConnectTransport({ baseUrl: gateway.url, httpVersion: "2" }));
  const requests = Array.from({ length: 50 }, (_, i) =>
    client.publish({ events: [0, 1].map((k) => ({ event: `${i}-${k}`, distinctId: `device-${i % 5}` })) }),
  );
  await expect.poll(() => inFlight()).toBeGreaterThan(50 * 512);
  release();
  const answers = await Promise.all(requests);
  expect((await first).status).toBe(200);
  expect(answers.map(({ accepted }) => accepted)).toEqual(Array.from({ length: 50 }, () => 2));
  expect(gateway.appends).toEqual([1, 100]);
  const names = (await gateway.events()).slice(1).map(({ event }) => event);
  expect(names).toEqual(Array.from({ length: 50 }, (_, i) => [`${i}-0`, `${i}-1`]).flat());
});
