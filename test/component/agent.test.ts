// The relay client and the agent: byte for byte against a server of the test's, and end to end against the relay service.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { createRelayClient, type RelayClient, type RelayClientOptions } from "#lib/relay-protocol/client.ts";
import { startAgent } from "../../services/agent/app.ts";
import { type AgentConfig, parseAgentConfig } from "../../services/agent/config.ts";
import { createPeer, type Peer, startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

const FAST = { min: 20, max: 50 };
const WAIT = { timeout: 10_000, interval: 10 };

let cleanUps: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.toReversed()) await cleanUp();
  cleanUps = [];
});

/** A server that says only what the test says. */
async function startServer() {
  const accepted: Peer[] = [];
  const server = net.createServer((socket) => accepted.push(createPeer(socket)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    server.close();
    for (const { socket } of accepted) socket.destroy();
  });
  let next = 0;
  return {
    port: (server.address() as net.AddressInfo).port,
    connections: () => accepted.length,
    async accept(): Promise<Peer> {
      const index = next++;
      await vi.waitUntil(() => accepted.length > index, WAIT);
      return accepted[index] as Peer;
    },
  };
}

function createClient(port: number, options: Partial<RelayClientOptions> = {}): RelayClient {
  const client = createRelayClient({ host: "127.0.0.1", port, id: "host a", reconnectMs: FAST, ...options });
  cleanUps.push(() => client.close());
  return client;
}

describe("the relay client", () => {
  it("identifies itself, adds its collectors, answers polls in one line, and takes its leave", async () => {
    const server = await startServer();
    const client = createClient(server.port);
    client.add("ram", () => 25, ["metrics", "dc:eu"]);
    client.add("net", async () => ({ rx: 1.23456, tx: -2, "": 7 }));
    const peer = await server.accept();
    await peer.receives("id host a\n");
    peer.send("ok\nbeat 30\n");
    await peer.receives("add ram:metrics,dc:eu\nadd net:\n");
    peer.send("get net,unknown,ram\n");
    await peer.receives("got net-rx:1.2346,net-tx:-2.0000,net-net:7.0000,ram-ram:25.0000\n");
    peer.send("get unknown\nget ram\n");
    await peer.receives("got ram-ram:25.0000\n");
    client.add("late", () => 1);
    client.remove("ram");
    client.remove("ram");
    await peer.receives("add late:\nremove ram\n");
    const closing = client.close();
    await peer.receives("remove net\nremove late\nclose\n");
    await peer.closes();
    await closing;
  });

  it("takes ok, beat and a poll from one packet, and a line in pieces", async () => {
    const server = await startServer();
    createClient(server.port).add("a", () => 1);
    const peer = await server.accept();
    await peer.receives("id host a\n");
    peer.send("ok\nbeat 30\nget a\nge");
    await peer.receives("add a:\ngot a-a:1.0000\n");
    peer.send("t a\n");
    await peer.receives("got a-a:1.0000\n");
  });

  it("ignores what it does not know, and answers and errors of others", async () => {
    const server = await startServer();
    createClient(server.port).add("a", () => 1);
    const peer = await server.accept();
    await peer.receives("id host a\n");
    peer.send("ok\nok\npong\nhello\nset a 1\n\nmissing id\nbeat x\nget\nget a\r\nget a\n");
    await peer.receives("add a:\ngot a-a:1.0000\n");
  });

  it.each(["missing id", "ok\r", "OK", "wrong token"])(
    "does not take %j for an ok, and tries again",
    async (answer) => {
      const server = await startServer();
      const reasons: string[] = [];
      createClient(server.port, { onDisconnected: ({ message }) => reasons.push(message) });
      const first = await server.accept();
      await first.receives("id host a\n");
      first.send(`${answer}\nbeat 30\n`);
      await first.closes();
      await (await server.accept()).receives("id host a\n");
      expect(reasons[0]).toContain("unable to identify");
    },
  );

  it("sends its token behind its id", async () => {
    const server = await startServer();
    createClient(server.port, { token: "s3cret" });
    await (await server.accept()).receives("id host a s3cret\n");
  });

  it("answers flush with all values, and override with ok and values at its own rhythm", async () => {
    const server = await startServer();
    const client = createClient(server.port);
    client.add("a", () => 1);
    client.add("b", () => 2);
    const peer = await server.accept();
    peer.send("ok\nbeat 30\n");
    await peer.receives("id host a\nadd a:\nadd b:\n");
    peer.send("flush\n");
    await peer.receives("got a-a:1.0000,b-b:2.0000\n");
    peer.send("override 1 a:0\noverride\n");
    await peer.receives("bad argument\nbad argument\n");
    peer.send("override 2 b:1,unknown:1\n");
    await peer.receives("ok\ngot b-b:2.0000\n");
  });

  it("pings every beat, and connects again and adds its collectors again when nothing comes back", async () => {
    const server = await startServer();
    createClient(server.port).add("a", () => 1, ["t"]);
    const first = await server.accept();
    first.send("ok\nbeat 1\n");
    await first.receives("id host a\nadd a:t\nping\n");
    first.send("pong\n");
    await first.receives("ping\n");
    await first.closes();
    const second = await server.accept();
    second.send("ok\nbeat 30\n");
    await second.receives("id host a\nadd a:t\n");
  });

  it("waits longer after each failure, and not the same time twice", async () => {
    const pauses: number[] = [];
    const closed = net.createServer().listen(0, "127.0.0.1");
    await vi.waitUntil(() => closed.listening, WAIT);
    const { port } = closed.address() as net.AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    createClient(port, { reconnectMs: { min: 10, max: 80 }, onDisconnected: (_, ms) => pauses.push(ms) });
    await vi.waitUntil(() => pauses.length >= 8, WAIT);
    expect(new Set(pauses).size).toBe(pauses.length);
    for (const [i, pause] of pauses.entries()) {
      expect(pause).toBeGreaterThanOrEqual(10);
      expect(pause).toBeLessThanOrEqual(Math.min(80, 10 * 2 ** (i + 1)));
    }
  });

  it("closed, never comes back: neither from a connection nor from waiting for one", async () => {
    const server = await startServer();
    const client = createClient(server.port, { reconnectMs: { min: 1, max: 2 } });
    const peer = await server.accept();
    peer.send("ok\nbeat 30\n");
    await peer.receives("id host a\n");
    await client.close();
    await client.close();
    const waiting = createClient(server.port, { reconnectMs: { min: 1, max: 2 } });
    const second = await server.accept();
    await second.receives("id host a\n");
    await waiting.close();
    const later = createClient(server.port);
    await (await server.accept()).receives("id host a\n");
    await later.close();
    expect(server.connections()).toBe(3);
  });

  it("lets no collector hold up or break the others, and skips values that no line can carry", async () => {
    const server = await startServer();
    const faults: string[] = [];
    const client = createClient(server.port, { collectTimeoutMs: 50, onFault: (name) => faults.push(name) });
    let calls = 0;
    client.add("stuck", () => {
      calls++;
      return new Promise(() => {});
    });
    client.add("throws", () => {
      throw new Error("no");
    });
    client.add("odd", () => ({ "a-b": 1, "c:d": 2, "e,f": 3, "g\nclose": 4, nan: Number.NaN, inf: 1 / 0, fine: 5 }));
    const peer = await server.accept();
    peer.send("ok\nbeat 30\nflush\n");
    await peer.receives("id host a\nadd stuck:\nadd throws:\nadd odd:\ngot odd-fine:5.0000\n");
    peer.send("get throws,stuck,odd\nget throws,odd\n");
    await peer.receives("got odd-fine:5.0000\ngot odd-fine:5.0000\n");
    expect(calls).toBe(1);
    expect(new Set(faults)).toEqual(new Set(["stuck", "throws", "odd"]));
    expect(await client.info()).toEqual({ _connected: 1, "odd-fine": 5 });
  });

  it.each(["a-b", "a:b", "a,b", "_connected", "", "a\nb"])("refuses the name %j, and any name twice", (name) => {
    const client = createClient(1);
    expect(() => client.add(name, () => 1)).toThrow("cannot use - or : or , or _connected in your name");
    client.add("good", () => 1);
    expect(() => client.add("good", () => 1)).toThrow("cannot add a duplicate collector to the set");
    expect(() => client.add("tagged", () => 1, ["a,b"])).toThrow("in a tag");
  });
});

const VALUES =
  "cpu_used cpu_user cpu_system ram_used ram_used_bytes ram_available_bytes swap_used disk_used disk_free_bytes disk_used_max net_rx_bytes net_tx_bytes load_1m load_5m load_15m";

async function startTestAgent(relay: Pick<TestRelay, "port">, ...argv: string[]) {
  const outcome = parseAgentConfig(["--server", `127.0.0.1:${relay.port}`, "--id", "this-host", ...argv], {});
  const config = (outcome as { config: AgentConfig }).config;
  const agent = await startAgent(config, createLogger({ level: "silent", service: "agent" }));
  cleanUps.push(() => agent[Symbol.asyncDispose]());
  return agent;
}

async function relays(relay: TestRelay) {
  const { relays: list } = (await (await fetch(`${relay.httpUrl}/relays`)).json()) as {
    relays: { id: string; collectors: { name: string }[] }[];
  };
  return list.map(({ id, collectors }) => [id, collectors.map(({ name }) => name)]);
}

describe("the agent", () => {
  it("brings this machine's values to the topic of a real log, polled, flushed and overridden", async () => {
    await using relay = await startTestRelay({ pollInterval: 300 });
    const agent = await startTestAgent(relay, "--command", "answer=echo 42", "--command=broken=exit 1");
    const names = ["cpu", "ram", "disk", "net", "load", "answer", "broken"];
    await vi.waitFor(async () => expect(await relays(relay)).toEqual([["this-host", names]]), WAIT);
    const expected = [...VALUES.split(" "), "answer"];
    const metricsSoFar = async () => new Set((await relay.pointsSoFar()).map(({ metric }) => metric));
    await vi.waitFor(async () => expect(await metricsSoFar()).toEqual(new Set(expected)), WAIT);
    const post = (path: string, body?: unknown) =>
      fetch(`${relay.httpUrl}/relays/this-host/${path}`, { method: "POST", body: JSON.stringify(body) ?? null });
    expect((await post("flush")).status).toBe(202);
    expect((await post("override", { duration: "5s", intervals: { load: "1s" } })).status).toBe(202);
    await agent[Symbol.asyncDispose]();
    await vi.waitFor(async () => expect(await relays(relay)).toEqual([]), WAIT);
    const received = await relay.metric("millrace_relay_points_received_total");
    const points = await relay.points(received);
    expect(new Set(points.map(({ sequence }) => sequence)).size).toBe(received);
    for (const { metric, value, tags, relayId } of points) {
      expect({ tags, relayId }).toEqual({ tags: { host: "this-host" }, relayId: "this-host" });
      if (/_used(_max)?$/.test(metric)) expect(value, metric).toBeLessThanOrEqual(100);
      expect(value, metric).toBeGreaterThanOrEqual(0);
    }
    expect(points.find(({ metric }) => metric === "answer")?.value).toBe(42);
    expect(await relay.metric("millrace_relay_points_rejected_total")).toBe(0);
  });

  it("sends values of its own accord at its interval, and on flush and override, when nobody polls", async () => {
    await using relay = await startTestRelay({}, createScriptedLog({ partitions: 1 }));
    await startTestAgent(relay, "--command", "answer=echo 42");
    await vi.waitFor(async () => expect((await relays(relay))[0]?.[1]).toContain("answer"), WAIT);
    const received = () => relay.metric("millrace_relay_points_received_total");
    expect(await received()).toBe(0);
    await fetch(`${relay.httpUrl}/relays/this-host/flush`, { method: "POST" });
    await relay.metricReaches("millrace_relay_points_received_total", 16);
    const before = await received();
    const body = JSON.stringify({ duration: "10s", intervals: { load: "1s" } });
    await fetch(`${relay.httpUrl}/relays/this-host/override`, { method: "POST", body });
    await relay.metricReaches("millrace_relay_points_received_total", before + 3);
    await startTestAgent(relay, "--interval", "1s");
    await relay.metricReaches("millrace_relay_points_received_total", before + 20);
  });

  it("comes over TLS with a token; neither plain TCP, nor an unknown certificate, nor another token gets in", async () => {
    const directory = mkdtempSync(join(tmpdir(), "millrace-tls-"));
    cleanUps.push(() => rmSync(directory, { recursive: true }));
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    const subject = ["-subj", "/CN=relay", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
    const made = [
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-out",
      cert,
      "-keyout",
      key,
    ];
    execFileSync("openssl", ["req", ...made, ...subject], { stdio: "ignore" });
    const tls = { relayTlsCert: cert, relayTlsKey: key, relayToken: "s3cret" };
    await using relay = await startTestRelay({ ...tls, pollInterval: 100 }, createScriptedLog({ partitions: 1 }));
    const drops = "millrace_relay_connections_dropped_total";
    await startTestAgent(relay, "--token", "s3cret");
    await startTestAgent(relay, "--token", "s3cret", "--tls");
    await relay.metricReaches(drops, 2, { reason: "tls" });
    await startTestAgent(relay, "--token", "other", "--tls", "--tls-ca", cert);
    await relay.metricReaches(drops, 1, { reason: "wrong_token" });
    expect(await relay.metric("millrace_relay_connections")).toBe(0);
    await startTestAgent(relay, "--token", "s3cret", "--tls", "--tls-ca", cert);
    await relay.metricReaches("millrace_relay_points_received_total", 15);
  });

  it("commands: kills one that its end finds running, with all that it started", async () => {
    await using relay = await startTestRelay({}, createScriptedLog({ partitions: 1 }));
    const mark = `7${process.pid}`;
    const agent = await startTestAgent(relay, "--command", `slow=sleep ${mark}; echo 1`);
    const isRunning = () => {
      const processes = execFileSync("ps", ["-eo", "args"], { encoding: "utf8" });
      return processes.split("\n").includes(`sleep ${mark}`);
    };
    await vi.waitFor(async () => expect((await relays(relay))[0]?.[1]).toContain("slow"), WAIT);
    await fetch(`${relay.httpUrl}/relays/this-host/flush`, { method: "POST" });
    await vi.waitUntil(isRunning, WAIT);
    await agent[Symbol.asyncDispose]();
    await vi.waitUntil(() => !isRunning(), WAIT);
  });
});
