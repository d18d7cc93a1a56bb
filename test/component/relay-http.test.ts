// The relay's HTTP side: who is connected, flush and override, health.
import { request } from "node:http";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Peer, startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

const OVERRIDE = { duration: "60s", intervals: { cpu: "1s" } };

let relay: TestRelay;
let peer: Peer;

async function start(settings: Parameters<typeof startTestRelay>[0] = {}) {
  relay = await startTestRelay(settings, createScriptedLog({ partitions: 1 }));
  peer = await relay.connect();
}

afterEach(async () => {
  await peer[Symbol.asyncDispose]();
  await relay[Symbol.asyncDispose]();
});

async function call(path: string, options: RequestInit = {}) {
  const response = await fetch(`${relay.httpUrl}${path}`, options);
  return {
    status: response.status,
    body: (await response.json()) as Record<string, string>,
    headers: response.headers,
  };
}

const post = (path: string, body: unknown = undefined, headers: Record<string, string> = {}) =>
  call(path, { method: "POST", headers, body: typeof body === "string" ? body : (JSON.stringify(body) ?? null) });

describe("without a token, on loopback", () => {
  beforeEach(async () => {
    await start();
    peer.send("id a/b c\nadd cpu:x:1,y\nadd ram:\n");
    await peer.receives("ok\nbeat 30\nok\nok\n");
  });

  it("GET /relays lists each connection with collectors, times and address", async () => {
    await using twin = await relay.connect();
    twin.send("id a/b c\n");
    await twin.receives("ok\nbeat 30\n");
    await using unidentified = await relay.connect();
    const { status, body } = await call("/relays");
    expect(status).toBe(200);
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const common = { id: "a/b c", address: "127.0.0.1", connected_at: time, last_seen: time };
    const collectors = [
      { name: "cpu", tags: ["x:1", "y"] },
      { name: "ram", tags: [] },
    ];
    expect(body).toEqual({
      relays: [
        { ...common, collectors },
        { ...common, collectors: [] },
      ],
    });
    expect(unidentified.socket.destroyed).toBe(false);
  });

  it("POST flush reaches every connection of the id and no other", async () => {
    await using twin = await relay.connect();
    twin.send("id a/b c\n");
    await twin.receives("ok\nbeat 30\n");
    await using other = await relay.connect();
    other.send("id other\n");
    await other.receives("ok\nbeat 30\n");
    expect(await post("/relays/a%2Fb%20c/flush")).toMatchObject({ status: 202, body: { connections: 2 } });
    await peer.receives("flush\n");
    await twin.receives("flush\n");
    other.send("ping\n");
    await other.receives("pong\n");
  });

  it("POST override sends seconds and the collectors that the connection has", async () => {
    await using twin = await relay.connect();
    twin.send("id a/b c\nadd net:\n");
    await twin.receives("ok\nbeat 30\nok\n");
    const body = { duration: "1m30s", intervals: { ram: "2s", cpu: "1s", none: "5s" } };
    expect(await post("/relays/a%2Fb%20c/override", body)).toMatchObject({ status: 202, body: { connections: 1 } });
    await peer.receives("override 90 ram:2,cpu:1\n");
    twin.send("ping\n");
    await twin.receives("pong\n");
  });

  it.each([
    ["no JSON", "{", /not JSON/],
    ["no object", "[]", /expected record|expected object/i],
    ["nothing", "{}", /duration: expected whole seconds/],
    ["an unknown field", { ...OVERRIDE, more: 1 }, /more/],
    ["a duration without a unit", { ...OVERRIDE, duration: 60 }, /duration: needs a unit/],
    ["a duration of no time", { ...OVERRIDE, duration: "0s" }, /duration: expected a duration/],
    ["a duration beyond a day", { ...OVERRIDE, duration: "2d" }, /at most 1d/],
    ["half a second", { ...OVERRIDE, intervals: { cpu: "1500ms" } }, /cpu: expected whole seconds/],
    ["no collectors", { ...OVERRIDE, intervals: {} }, /at least one collector/],
    ["a line break in a name", { ...OVERRIDE, intervals: { "a\nclose": "1s" } }, /name without a comma/],
    ["a comma in a name", { ...OVERRIDE, intervals: { "a,b": "1s" } }, /name without a comma/],
  ])("POST override with %s is 400 and says why; nothing is sent", async (_claim, body, message) => {
    const answer = await post("/relays/a%2Fb%20c/override", body);
    expect(answer.status).toBe(400);
    expect(answer.body.error).toMatch(message);
    peer.send("ping\n");
    await peer.receives("pong\n");
  });

  it.each([
    ["POST", "/relays/nobody/flush", 404],
    ["POST", "/relays/nobody/override", 404],
    ["POST", "/relays/a/b/flush", 404],
    ["POST", "/relays/a%2Fb%20c/dance", 404],
    ["POST", "/relays/%E0%A4/flush", 400],
    ["GET", "/relays/a%2Fb%20c/flush", 405],
    ["POST", "/relays", 405],
    ["GET", "/", 404],
  ])("%s %s is %i", async (method, path, status) => {
    const body = method === "POST" ? JSON.stringify(OVERRIDE) : null;
    const answer = await call(path, { method, body });
    expect(answer.status).toBe(status);
    expect(answer.body.error).not.toBe("");
  });

  it("override of collectors that the relay does not have is 404; a body over 64 KiB is 413", async () => {
    const path = "/relays/a%2Fb%20c/override";
    expect((await post(path, { ...OVERRIDE, intervals: { disk: "1s" } })).status).toBe(404);
    expect((await post(path, " ".repeat(70_000))).status).toBe(413);
  });

  it("web pages are kept out, by their Origin and by a name of theirs that leads here", async () => {
    expect((await post("/relays/a%2Fb%20c/flush", undefined, { origin: "https://evil.example" })).status).toBe(403);
    const status = await new Promise((resolve, reject) => {
      const options = { headers: { host: "evil.example:8082" } };
      request(`${relay.httpUrl}/relays`, options, (response) => resolve(response.resume().statusCode))
        .on("error", reject)
        .end();
    });
    expect(status).toBe(403);
  });

  it("health, readiness and metrics answer", async () => {
    expect((await call("/healthz")).body).toEqual({ status: "ok" });
    expect((await call("/readyz")).body).toEqual({ status: "ready", checks: { log: "ok" } });
    const metrics = await (await fetch(`${relay.httpUrl}/metrics`)).text();
    expect(metrics).toContain("millrace_relay_connections 1");
  });
});

describe("with RELAY_TOKEN set", () => {
  beforeEach(async () => {
    await start({ relayToken: "s3cret" });
    peer.send("id a s3cret\n");
    await peer.receives("ok\nbeat 30\n");
  });

  it("the token is asked for, in either header; health and metrics are open", async () => {
    expect((await call("/relays")).status).toBe(401);
    expect((await call("/relays", { headers: { authorization: "Bearer wrong" } })).status).toBe(401);
    expect((await post("/relays/a/flush")).headers.get("www-authenticate")).toBe("Bearer");
    expect((await call("/relays", { headers: { authorization: "Bearer s3cret" } })).status).toBe(200);
    const headers = { "x-auth-token": "s3cret", origin: "https://stats.example" };
    expect((await post("/relays/a/flush", undefined, headers)).status).toBe(202);
    await peer.receives("flush\n");
    expect((await call("/healthz")).status).toBe(200);
    expect((await call("/readyz")).status).toBe(200);
  });
});
