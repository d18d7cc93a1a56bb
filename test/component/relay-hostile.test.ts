// Connections that mean harm, or are just too many: they are bounded, and the others notice nothing.
import { once } from "node:events";
import net from "node:net";
import { describe, expect, it, vi } from "vitest";
import { connectPeer, type Peer, startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

const DROPS = "millrace_relay_connections_dropped_total";
const WAIT = { timeout: 10_000, interval: 10 };

function start(settings: Parameters<typeof startTestRelay>[0] = {}): Promise<TestRelay> {
  return startTestRelay(settings, createScriptedLog({ partitions: 1 }));
}

async function identified(relay: TestRelay, id: string): Promise<Peer> {
  const peer = await relay.connect();
  peer.send(`id ${id}\n`);
  await peer.receives("ok\nbeat 30\n");
  return peer;
}

describe("a line without an end", () => {
  it.each(["before", "after"])("of 100 MB, %s the id, is cut off at the limit, in bounded memory", async (when) => {
    await using relay = await start();
    await using peer = await relay.connect();
    if (when === "after") peer.send("id a\n");
    const megabyte = Buffer.alloc(1024 * 1024, "x");
    const before = process.memoryUsage();
    let sent = 0;
    while (sent < 100 && !peer.socket.destroyed) {
      sent++;
      // An error is the other side's end as well.
      if (!peer.socket.write(megabyte)) await once(peer.socket, "drain").catch(() => peer.socket.destroy());
    }
    expect(sent).toBeLessThan(50);
    await relay.metricReaches(DROPS, 1, { reason: "line_too_long" });
    const after = process.memoryUsage();
    expect(after.arrayBuffers + after.external - before.arrayBuffers - before.external).toBeLessThan(20 * 1024 * 1024);
  });

  it("is cut off sooner where nobody has said yet who it is", async () => {
    await using relay = await start();
    await using slow = await relay.connect();
    slow.send(`id ${"a".repeat(500)}`);
    await using stranger = await relay.connect();
    stranger.send("x".repeat(8 * 1024 + 1));
    await stranger.closes();
    expect(await relay.metric(DROPS, { reason: "line_too_long" })).toBe(1);
    slow.send(`${"a".repeat(500)}\n`);
    await slow.receives("ok\nbeat 30\n");
  });

  it("is cut off at its limit and not before it", async () => {
    await using relay = await start({ relayMaxLineBytes: 2_000 });
    await using peer = await identified(relay, "a");
    peer.send(`${"x".repeat(2_000)}\nping\n`);
    await peer.receives("pong\n");
    peer.send("x".repeat(1_000));
    peer.send(`${"x".repeat(1_001)}\nping\n`);
    await peer.closes();
  });
});

describe("two thousand connections at once", () => {
  it("are all served, polled, and answered for, and nothing of them stays", async () => {
    await using relay = await start({ pollInterval: 1_000 });
    const peers = await Promise.all(Array.from({ length: 2_000 }, () => connectPeer(relay.port)));
    for (const [i, peer] of peers.entries()) peer.send(`id h${i}\nadd c:\n`);
    await Promise.all(peers.map((peer) => once(peer.socket, "data")));
    await relay.metricReaches("millrace_relay_polls_total", 2_000);
    for (const peer of peers) peer.send("got c-v:1\n");
    const points = await relay.points(2_000);
    expect(new Set(points.map(({ relayId }) => relayId)).size).toBe(2_000);
    for (const peer of peers) peer.socket.destroy();
    await vi.waitFor(async () => expect(await relay.metric("millrace_relay_connections")).toBe(0), WAIT);
  });

  it("are hung up on over the limit; when one leaves there is room again", async () => {
    await using relay = await start({ relayMaxConnections: 3 });
    const peers = [await identified(relay, "1"), await identified(relay, "2"), await identified(relay, "3")];
    await using fourth = await relay.connect();
    await fourth.closes();
    expect(await relay.metric(DROPS, { reason: "over_limit" })).toBe(1);
    peers[0]?.send("close\n");
    await peers[0]?.closes();
    await using fifth = await identified(relay, "5");
    fifth.send("ping\n");
    await fifth.receives("pong\n");
    for (const peer of peers) peer.socket.destroy();
  });
});

describe("a relay", () => {
  it("that never answers a poll is polled on, and delays nobody", async () => {
    await using relay = await start({ pollInterval: 50 });
    await using mute = await identified(relay, "mute");
    await using lively = await identified(relay, "lively");
    mute.send("add c:\n");
    lively.send("add c:\n");
    await mute.receives(`ok\n${"get c\n".repeat(5)}`);
    await lively.receives("ok\nget c\nget c\nget c\n");
    lively.send("got c-c:1\n");
    await relay.points(1);
  });

  it("that never reads is dropped when its answers pile up, and delays nobody", async () => {
    await using relay = await start();
    await using lively = await identified(relay, "lively");
    await using deaf = await identified(relay, "deaf");
    deaf.socket.pause();
    const pings = "ping\n".repeat(10_000);
    await vi.waitFor(async () => {
      deaf.send(pings);
      lively.send("ping\n");
      await lively.receives("pong\n");
      expect(await relay.metric(DROPS, { reason: "not_reading" })).toBe(1);
    }, WAIT);
    await vi.waitFor(async () => expect(await relay.metric("millrace_relay_connections")).toBe(1), WAIT);
  });

  it("that breaks off in the middle of a line leaves nothing behind", async () => {
    await using relay = await start();
    const peer = await identified(relay, "a");
    peer.send("got a-a:1\ngot b-b:");
    await relay.points(1);
    peer.socket.resetAndDestroy();
    await vi.waitFor(async () => expect(await relay.metric("millrace_relay_connections")).toBe(0), WAIT);
    await relay.points(1);
  });
});

describe("with RELAY_TOKEN set", () => {
  const TOKEN = "s3cret";

  it.each([
    ["the token", `id host ${TOKEN}\n`],
    ["the token behind an id with spaces", `id host of mine ${TOKEN}\n`],
    ["the token behind an empty id", `id  ${TOKEN}\n`],
    ["the token alone, which is an empty id's", `id ${TOKEN}\n`],
  ])("%s is let in", async (_claim, line) => {
    await using relay = await start({ relayToken: TOKEN });
    await using peer = await relay.connect();
    peer.send(line);
    await peer.receives("ok\nbeat 30\n");
  });

  it.each([
    ["no token", "id host\n"],
    ["another token", "id host other\n"],
    ["its beginning", `id host ${TOKEN.slice(0, -1)}\n`],
    ["something behind it", `id host ${TOKEN} \n`],
    ["other capitals", `id host ${TOKEN.toUpperCase()}\n`],
    ["an empty id", "id \n"],
  ])("%s is refused and closed", async (_claim, line) => {
    await using relay = await start({ relayToken: TOKEN });
    await using peer = await relay.connect();
    peer.send(line);
    await peer.receives("wrong token\n");
    await peer.closes();
    expect(await relay.metric(DROPS, { reason: "wrong_token" })).toBe(1);
    expect(relay.lines.join()).not.toContain(TOKEN);
  });

  it("the id of the points is without it", async () => {
    await using relay = await start({ relayToken: TOKEN });
    await using peer = await relay.connect();
    peer.send(`id my host ${TOKEN}\ngot a-a:1\n`);
    const [point] = await relay.points(1);
    expect([point?.relayId, point?.tags.host]).toEqual(["my host", "my host"]);
  });
});

it("a port that is taken is named with what to do", async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  await expect(start({ relayPort: port })).rejects.toThrow(/uses that port.*RELAY_PORT/);
  server.close();
});
