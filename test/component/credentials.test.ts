// Keys and tokens are read in one way on every port: whatever header they come in, and whatever stands beside it.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { assertCredentials } from "../../services/clickhouse/auth.ts";
import { createRoutes } from "../../services/relay/routes.ts";
import { createAccess } from "../../services/stats/access.ts";
import { createPersonsRpc } from "../../services/stats/persons/rpc.ts";
import { createStatsRpc } from "../../services/stats/rpc/rpc.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { callH1, envelope } from "../kit/http-calls.ts";

/** Of what a person may choose: spaces and letters beyond ASCII. */
const KEY = "clé 日本 + 1";
/** As a program sends it that writes UTF-8 into headers; Node takes a text's characters for bytes. */
const BYTES = Buffer.from(KEY).toString("latin1");
const LATIN = "clé-1";

interface Surface {
  name: string;
  path: string;
  method: string;
  body: string | Buffer;
  type?: string;
  port: number;
}

const surfaces: Surface[] = [];
const open: AsyncDisposable[] = [];

async function serve(handle: (request: HttpRequest, response: HttpResponse) => boolean): Promise<number> {
  const listener = await listenHttp({
    ...{ ...SMALL_LISTENER, host: "127.0.0.1", port: 0, setting: "PORT", logger: pino({ level: "silent" }) },
    handle(request, response) {
      if (handle(request, response)) return;
      response.writeHead(404);
      response.end();
    },
  });
  open.push({ [Symbol.asyncDispose]: () => listener.close(0) });
  return listener.port;
}

/** What is behind the door is of no interest here: any answer but 401 is one of somebody who was let in. */
const nothing = new Proxy({}, { get: () => () => Promise.reject(new Error("not part of this test")) }) as never;

beforeAll(async () => {
  const gateway = await startTestGateway({ secretApiKeys: [KEY, LATIN] });
  open.push(gateway);
  const logger = pino({ level: "silent" });
  const shutdownSignal = new AbortController().signal;
  const accesses = [KEY, LATIN].map((token) => createAccess({ token, corsAllow: "*" }));
  const isEither = (request: HttpRequest) => accesses.some((access) => access.isAllowed(request));
  const stats = createStatsRpc({
    ...{ queries: nothing, live: nothing, registry: new Registry(), logger, nowMs: Date.now, shutdownSignal },
    eventAccess: { refusalOf: () => undefined, replayRefusalOf: () => undefined },
    access: { isAllowed: isEither, isForeign: () => false, corsAllow: "*" },
  });
  const persons = createPersonsRpc({
    ...{ publicKeys: [], secretKeys: [KEY, LATIN], warehouse: nothing, deletions: nothing, logger, shutdownSignal },
    retention: () => Promise.reject(new Error("not part of this test")),
  });
  const relays = [KEY, LATIN].map((token) =>
    createRoutes({ connections: new Set(), token, host: "127.0.0.1", logger }),
  );
  const rpc = "/millrace.stats.v1.StatsService/ListMetrics";
  const person = {
    ...{ name: "persons", path: "/millrace.identity.v1.PersonService/Delete", method: "POST" },
    ...{ type: "application/connect+json", body: envelope(Buffer.from("{}")) },
  };
  const single = '{"event_type":"e","source":"s","created_at":"2026-03-27T12:00:00Z"}';
  const publish = "/millrace.events.v1.EventService/Publish";
  const route = await serve((request, response) => {
    response.writeHead(isEither(request) ? 200 : 401);
    response.end();
    return true;
  });
  surfaces.push(
    { name: "gateway", path: "/events", method: "POST", body: single, port: gateway.port },
    { name: "gateway, RPC", path: publish, method: "POST", body: '{"events":[{"event":"e"}]}', port: gateway.port },
    { name: "stats", path: "/hourly", method: "GET", body: "", port: route },
    { name: "stats, RPC", path: rpc, method: "POST", body: "{}", port: await serve(stats) },
    { ...person, port: await serve(persons) },
    { name: "relay", path: "/relays", method: "GET", body: "", port: await serve(relays[0] as never) },
  );
});
afterAll(async () => {
  for (const each of open) await each[Symbol.asyncDispose]();
});

async function isLetIn(name: string, headers: Record<string, string>): Promise<boolean> {
  const {
    path,
    method,
    body,
    port,
    type = "application/json",
  } = surfaces.find((each) => each.name === name) as Surface;
  // Bytes: with a text as body Node's client encodes the headers once more.
  const call = { method, headers: { "content-type": type, ...headers }, body: Buffer.from(body) };
  const { status, text } = await callH1(port, path, call);
  return status !== 401 && !text.includes("unauthenticated");
}

const NAMES = ["gateway", "gateway, RPC", "stats", "stats, RPC", "persons", "relay"];
const basic = (user: string) => `Basic ${Buffer.from(`${user}:x`).toString("base64")}`;
const CASES: [string, Record<string, string>, boolean][] = [
  ["a bearer token", { authorization: `Bearer ${BYTES}` }, true],
  ["a bearer token behind two spaces", { authorization: `Bearer  ${BYTES}` }, true],
  ["a bearer token in lower case", { authorization: `bearer ${BYTES}` }, true],
  ["the user of basic", { authorization: basic(KEY) }, true],
  ["x-api-key", { "x-api-key": BYTES }, true],
  ["x-auth-token", { "x-auth-token": BYTES }, true],
  ["a right bearer token beside a wrong header", { authorization: `Bearer ${BYTES}`, "x-auth-token": "wrong" }, true],
  ["a wrong bearer token beside a right header", { authorization: "Bearer wrong", "x-auth-token": BYTES }, true],
  ["a right bearer token beside an empty header", { authorization: `Bearer ${BYTES}`, "x-api-key": "" }, true],
  ["a wrong key", { authorization: "Bearer wrong" }, false],
  ["two wrong keys", { authorization: "Bearer wrong", "x-api-key": "wrong" }, false],
  ["another scheme", { authorization: `Digest ${BYTES}` }, false],
  ["nothing", {}, false],
];

describe.each(NAMES)("%s", (name) => {
  it.each(CASES)("%s", async (_case, headers, expected) => {
    expect(await isLetIn(name, headers)).toBe(expected);
  });
});

it("a key in Latin-1, as fetch sends it, is the same key", async () => {
  for (const name of NAMES.slice(0, 5)) {
    expect([name, await isLetIn(name, { authorization: `Bearer ${LATIN}` })]).toEqual([name, true]);
  }
});

describe("the SQL endpoint", () => {
  const expected = { host: "127.0.0.1", user: "é", password: KEY };
  it.each<[string, Record<string, string>, boolean]>([
    ["basic", { authorization: `Basic ${Buffer.from(`é:${KEY}`).toString("base64")}` }, true],
    ["basic behind two spaces", { authorization: `Basic  ${Buffer.from(`é:${KEY}`).toString("base64")}` }, true],
    ["headers", { "x-clickhouse-user": Buffer.from("é").toString("latin1"), "x-clickhouse-key": BYTES }, true],
    ["a wrong password", { authorization: `Basic ${Buffer.from("é:wrong").toString("base64")}` }, false],
    ["nothing", {}, false],
  ])("%s", async (_case, headers, expectedIn) => {
    // Over a socket, because what matters is what Node makes of the bytes.
    const server = createServer((request, response) => {
      try {
        assertCredentials(request.headers, new URLSearchParams(), expected);
        response.end();
      } catch {
        response.writeHead(401).end();
      }
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const { status } = await callH1(port, "/", { headers, body: Buffer.alloc(0) });
    server.close();
    expect(status).toBe(expectedIn ? 200 : 401);
  });
});
