// Who may write, and what everyone may see.
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1, connectH1, connectH2, exchangeRaw, type OneConnection } from "../kit/http-calls.ts";

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const JSON_TYPE = { "content-type": "application/json" };
const BODIES = {
  "/events": '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}',
  [PUBLISH]: '{"events":[{"event":"e"}]}',
};

/** Of what a person may choose: spaces, a colon, letters beyond ASCII. */
const ODD_KEY = "clé: 日本 + 1";
/** As a program sends it that writes UTF-8 into headers; Node takes a text's characters for bytes. */
const ODD_BYTES = Buffer.from(ODD_KEY).toString("latin1");

let gateway: TestGateway;
let connections: OneConnection[];
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: ["pub-key", ODD_KEY], secretApiKeys: ["sec-key"] });
  connections = [connectH1(gateway.port), connectH2(gateway.port)];
});
afterAll(async () => {
  for (const connection of connections) connection[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

const basic = (user: string) => `Basic ${Buffer.from(user).toString("base64")}`;

describe.each(Object.entries(BODIES))("%s", (path, body) => {
  it.each([
    ["a bearer token", { authorization: "Bearer pub-key" }, "pub-key"],
    ["a bearer token in lower case", { authorization: "bearer sec-key" }, "sec-key"],
    ["a basic user", { authorization: basic("pub-key:") }, "pub-key"],
    ["a basic user with password", { authorization: basic("sec-key:anything") }, "sec-key"],
    ["x-api-key", { "x-api-key": "sec-key" }, "sec-key"],
    ["a bearer token behind two spaces", { authorization: "Bearer  pub-key" }, "pub-key"],
    ["a bearer token with spaces, in UTF-8", { authorization: `Bearer ${ODD_BYTES}` }, ODD_KEY],
    ["x-api-key with spaces, in UTF-8", { "x-api-key": ODD_BYTES }, ODD_KEY],
  ])("takes a key as %s and stores it with the event", async (_case, headers, key) => {
    for (const connection of connections) {
      // Bytes: with a text as body Node's HTTP/1.1 client encodes the header once more.
      const bytes = Buffer.from(body);
      expect((await connection.call(path, { headers: { ...JSON_TYPE, ...headers }, body: bytes })).status).toBe(200);
      expect((await gateway.events()).at(-1)?.apiKey).toBe(key);
    }
  });

  it.each([
    ["no key", {}],
    ["a wrong key", { authorization: "Bearer nope" }],
    ["a longer key", { "x-api-key": "pub-key2" }],
    ["a shorter key", { "x-api-key": "pub" }],
    ["both keys in one", { "x-api-key": "pub-key,sec-key" }],
    ["an empty key", { authorization: "Bearer " }],
    ["an unknown scheme", { authorization: "Digest pub-key" }],
    ["basic that is no base64", { authorization: "Basic %%%" }],
    ["the key as password", { authorization: basic(":pub-key") }],
    ["the key in the query", {}],
  ])("answers %s with 401, on a connection that stays good", async (name, headers) => {
    const before = (await gateway.stored()).length;
    const target = name.endsWith("query") ? `${path}?api_key=pub-key` : path;
    for (const connection of connections) {
      const answer = await connection.call(target, { headers: { ...JSON_TYPE, ...headers }, body });
      expect(answer.status).toBe(401);
      expect(answer.text).toContain("authorization: Bearer KEY");
      const good = await connection.call(path, { headers: { ...JSON_TYPE, "x-api-key": "pub-key" }, body });
      expect(good.status).toBe(200);
    }
    expect((await gateway.stored()).length).toBe(before + 2);
  });

  it("is refused before the body has come", async () => {
    const head = `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n`;
    expect(await exchangeRaw(gateway.port, head)).toMatch(/^HTTP\/1\.1 401 /);
  });
});

it.each([
  ["grpc", () => createGrpcTransport({ baseUrl: gateway.url })],
  ["grpc-web", () => createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "1.1" })],
] as const)("a %s call without a key is unauthenticated", async (_name, transport) => {
  const call = createClient(EventService, transport()).publish({ events: [{ event: "e" }] });
  await expect(call).rejects.toMatchObject({ code: Code.Unauthenticated });
});

it("health, readiness and metrics ask for no key", async () => {
  for (const connection of connections) {
    const health = await connection.call("/healthz", { method: "GET" });
    expect([health.status, health.text]).toEqual([200, '{"status":"ok"}']);
    const ready = await connection.call("/readyz", { method: "GET" });
    expect([ready.status, JSON.parse(ready.text)]).toEqual([200, { status: "ready", checks: { log: "ok" } }]);
    const metrics = await connection.call("/metrics", { method: "GET" });
    expect(metrics.text).toMatch(/^millrace_requests_total\{dialect="events",code="401"\} \d+$/m);
    expect((await connection.call("/healthz", { method: "DELETE" })).status).toBe(405);
    expect((await connection.call("/healthz", { method: "HEAD" })).status).toBe(200);
  }
});

it("no key reaches log or metrics", async () => {
  const metrics = (await callH1(gateway.port, "/metrics", { method: "GET" })).text;
  for (const text of [...gateway.lines, metrics]) expect(text).not.toMatch(/pub-key|sec-key/);
});
