// Connections that do nothing: each port closes them in time, and one address cannot hold all of its places.
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createTestCertificates, type TestCertificates } from "../kit/certificates.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { createMemoryWarehouse } from "../kit/memory-warehouse.ts";
import { patience } from "../kit/patience.ts";
import { startTestRelay } from "../kit/relay.ts";
import { startTestStats } from "../kit/stats.ts";

const DROPS = "millrace_relay_connections_dropped_total";
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** An empty SETTINGS frame. */
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const PING = Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
const NOTHING = () => "";
/** The longest of the times that a port gives, and some for the machine. */
const CLOSED_WITHIN = 25_000;

let files: TestCertificates;
let pair: { tlsCert: string; tlsKey: string };
let relayPair: { relayTlsCert: string; relayTlsKey: string };
beforeAll(async () => {
  files = await createTestCertificates();
  await files.make("ports");
  const [cert, key] = [files.certFile("ports"), files.keyFile("ports")];
  pair = { tlsCert: cert, tlsKey: key };
  relayPair = { relayTlsCert: cert, relayTlsKey: key };
});
afterAll(() => files[Symbol.asyncDispose]());

/** A peer that never closes from its side, whatever the server does. */
async function openStubborn(port: number, from = "127.0.0.1"): Promise<net.Socket> {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress: from, allowHalfOpen: true });
  socket.on("error", () => {}); // It is cut off, as it may be.
  socket.resume();
  await once(socket, "connect");
  return socket;
}

/**
 * Waits until the server has let go of the connection, writing `drip` all the while. A server that has only said good-bye
 * takes what is still written; once its socket is gone, writing fails.
 */
async function isCut(socket: net.Socket, drip: () => string | Buffer): Promise<void> {
  const isGone = () => {
    const bytes = socket.readableEnded ? "x" : drip();
    if (!socket.destroyed && bytes.length > 0) socket.write(bytes);
    return socket.destroyed;
  };
  await vi.waitUntil(isGone, { timeout: CLOSED_WITHIN, interval: 100 });
}

function byteByByte(bytes: Buffer): () => Buffer {
  let next = 0;
  return () => bytes.subarray(next, ++next);
}

/** The first bytes of a client's handshake. */
async function clientHello(): Promise<Buffer> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = tls.connect({ port: (server.address() as net.AddressInfo).port, host: "127.0.0.1" });
  client.on("error", () => {}); // Nobody answers it.
  const [socket] = (await once(server, "connection")) as [net.Socket];
  const [hello] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  server.close();
  return hello;
}

it("a handshake that stands still, or comes in drips, is closed by every port with TLS", {
  timeout: patience(60_000),
}, async () => {
  await using gateway = await startTestGateway({ ...pair, headersTimeout: 1_000 });
  await using stats = await startTestStats(createMemoryWarehouse(), pair);
  await using relay = await startTestRelay(relayPair);
  const hello = await clientHello();
  const cases = [gateway, stats, relay].flatMap(({ port }) => [
    [port, Buffer.alloc(0), NOTHING] as const,
    [port, hello.subarray(0, 3), NOTHING] as const,
    [port, hello, NOTHING] as const,
    [port, Buffer.alloc(0), byteByByte(hello)] as const,
  ]);
  await Promise.all(
    cases.map(async ([port, bytes, drip]) => {
      const socket = await openStubborn(port);
      socket.write(bytes);
      await isCut(socket, drip);
    }),
  );
  expect(await relay.metric(DROPS, { reason: "tls" })).toBe(4);
  expect(await relay.metric(DROPS)).toBe(4);
});

describe("the gateway closes a connection without a request", () => {
  const starts: [string, Buffer | string, () => string | Buffer][] = [
    ["that says nothing", "", NOTHING],
    ["that sends half of HTTP/2's preface", PREFACE.slice(0, 12), NOTHING],
    ["whose head of HTTP/1.1 comes in drips", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: ", () => "x"],
    ["of HTTP/2 that says nothing more", Buffer.concat([Buffer.from(PREFACE), SETTINGS]), NOTHING],
    ["of HTTP/2 that only pings", Buffer.concat([Buffer.from(PREFACE), SETTINGS]), () => PING],
  ];

  it.each(starts)("%s", async (_case, bytes, drip) => {
    await using gateway = await startTestGateway({ headersTimeout: 300 });
    const socket = await openStubborn(gateway.port);
    socket.write(bytes);
    await isCut(socket, drip);
  });

  it.each(starts)("%s, under TLS", async (_case, bytes, drip) => {
    await using gateway = await startTestGateway({ ...pair, headersTimeout: 300 });
    const ALPNProtocols = String(bytes).startsWith("PRI") ? ["h2"] : ["http/1.1"];
    const raw = await openStubborn(gateway.port);
    const socket = tls.connect({ socket: raw, rejectUnauthorized: false, ALPNProtocols });
    socket.on("error", () => {}); // It is cut off, as it may be.
    socket.resume();
    await once(socket, "secureConnect");
    socket.write(bytes);
    await isCut(socket, drip);
  });
});

describe("one address has its share of the connections", () => {
  /** How many of `count` connections from an address stay open; the others are closed by the server. */
  async function open(port: number, from: string, count: number): Promise<net.Socket[]> {
    return Promise.all(Array.from({ length: count }, () => openStubborn(port, from)));
  }
  const stillOpen = (sockets: net.Socket[]) => sockets.filter((each) => !each.destroyed && !each.readableEnded);

  it.each([
    ["the gateway", 16, () => startTestGateway({ maxConnections: 40 })],
    ["the gateway under TLS", 16, () => startTestGateway({ maxConnections: 40, ...pair })],
    ["the gateway, as it is told", 3, () => startTestGateway({ maxConnections: 40, maxConnectionsPerAddress: 3 })],
    ["stats", 101, () => startTestStats(createMemoryWarehouse(), { statsMaxWatchers: 1 })],
    ["stats under TLS", 101, () => startTestStats(createMemoryWarehouse(), { statsMaxWatchers: 1, ...pair })],
    ["the relay", 16, () => startTestRelay({ relayMaxConnections: 40 })],
    ["the relay under TLS", 16, () => startTestRelay({ relayMaxConnections: 40, ...relayPair })],
    ["the relay, as it is told", 3, () => startTestRelay({ relayMaxConnectionsPerAddress: 3 })],
  ] as const)("of %s", async (name, share, start) => {
    await using service = await start();
    const greedy = await open(service.port, "127.0.0.2", share + 5);
    await vi.waitFor(() => expect(stillOpen(greedy)).toHaveLength(share));
    // Another address is served, and so is the first one again when it has let go.
    const [other] = await open(service.port, "127.0.0.3", 1);
    for (const socket of stillOpen(greedy).slice(0, 2)) socket.destroy();
    await vi.waitFor(async () => {
      const [next] = await open(service.port, "127.0.0.2", 1);
      greedy.push(next as net.Socket);
      await once(next as net.Socket, "end", { signal: AbortSignal.timeout(50) }).then(
        () => expect.unreachable("refused"),
        (error: Error) => expect(error.name).toBe("AbortError"),
      );
    });
    expect(stillOpen([other as net.Socket])).toHaveLength(1);
    if ("metricReaches" in service) {
      expect(await service.metric(DROPS, { reason: "over_address_limit" })).toBeGreaterThanOrEqual(5);
      // Those that let go in the middle of their handshake, and none that was refused before it.
      expect(await service.metric(DROPS, { reason: "tls" })).toBe(name.endsWith("TLS") ? 2 : 0);
    }
    for (const socket of [...greedy, other as net.Socket]) socket.destroy();
  });

  it("of the standalone's ClickHouse interface", async () => {
    await using clickhouse = await startTestClickHouse();
    const port = Number(new URL(clickhouse.url).port);
    const greedy = await open(port, "127.0.0.2", 140);
    await vi.waitFor(() => expect(stillOpen(greedy)).toHaveLength(128));
    expect((await fetch(`${clickhouse.url}/ping`)).status).toBe(200);
    for (const socket of greedy) socket.destroy();
  });

  it("but a trusted proxy has all, and the log names the address", async () => {
    const settings = { maxConnections: 40, maxConnectionsPerAddress: 3, trustedProxies: ["127.0.0.2"] };
    await using gateway = await startTestGateway(settings);
    const proxied = await open(gateway.port, "127.0.0.2", 10);
    const greedy = await open(gateway.port, "127.0.0.3", 6);
    await vi.waitFor(() => expect(stillOpen(greedy)).toHaveLength(3));
    expect(stillOpen(proxied)).toHaveLength(10);
    const told = gateway.lines.filter((line) => line.includes("too many connections from one address"));
    expect(told).toEqual([expect.stringContaining('"address":"127.0.0.3"')]);
    for (const socket of [...proxied, ...greedy]) socket.destroy();
  });
});
