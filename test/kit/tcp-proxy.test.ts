import { once } from "node:events";
import net from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { atMost } from "./patience.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";

let stack: AsyncDisposableStack;
/** What it does with a connection is each test's. */
let target: net.Server;
let proxy: TcpProxy;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const sockets = new Set<net.Socket>();
  target = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  target.listen(0, "127.0.0.1");
  await once(target, "listening");
  stack.defer(async () => {
    target.close();
    for (const socket of sockets) socket.destroy();
  });
  proxy = stack.use(await startTcpProxy({ targetPort: () => (target.address() as net.AddressInfo).port }));
});
afterEach(() => stack.disposeAsync());

async function connect(): Promise<net.Socket> {
  const socket = net.connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  // Resets are what is tested here; each test says which of them it waits for.
  socket.on("error", () => undefined);
  stack.defer(() => void socket.destroy());
  await once(socket, "connect");
  return socket;
}

const echo = () => target.on("connection", (socket) => socket.pipe(socket));

/** Milliseconds until the bytes are back. */
async function roundTrip(socket: net.Socket, bytes: string | Buffer): Promise<number> {
  const begun = performance.now();
  let missing = bytes.length;
  const all = Promise.withResolvers<void>();
  const onData = (data: Buffer) => {
    missing -= data.length;
    if (missing <= 0) all.resolve();
  };
  socket.on("data", onData);
  socket.write(bytes);
  await all.promise;
  socket.off("data", onData);
  return performance.now() - begun;
}

describe("an undisturbed proxy", () => {
  it("passes every byte on in order, and the end of each direction by itself", async () => {
    target.on("connection", async (socket) => {
      const received = await text(socket);
      // The caller's end has arrived and the other direction is still open.
      socket.end(`got ${received.length}: ${received.slice(-6)}`);
    });
    const socket = await connect();
    const answer = text(socket);
    socket.end(`${"x".repeat(3_000_000)}finish`);
    expect(await answer).toBe("got 3000006: finish");
    await vi.waitFor(() => expect(proxy.connections).toBe(0));
  });

  it("does not gather what the target does not read", async () => {
    target.on("connection", (socket) => socket.pause());
    const socket = await connect();
    let taken = 0;
    const portion = Buffer.alloc(64 * 1024);
    const offer = () => {
      while (taken < 200_000_000 && socket.write(portion)) taken += portion.length;
    };
    socket.on("drain", offer);
    offer();
    let before = -1;
    await vi.waitFor(
      () => {
        const still = taken === before;
        before = taken;
        expect(still).toBe(true);
      },
      { interval: 300, timeout: 10_000 },
    );
    // Buffers of the kernel on both sides, and the proxy's.
    expect(taken).toBeLessThan(20_000_000);
  });

  it("passes a reset of the target on as a reset", async () => {
    target.on("connection", (socket) => socket.once("data", () => socket.resetAndDestroy()));
    const socket = await connect();
    socket.write("?");
    const [error] = await once(socket, "error");
    expect(error).toMatchObject({ code: "ECONNRESET" });
  });

  it("resets a caller when nobody listens behind it", async () => {
    target.close();
    await once(target, "close");
    const lonely = stack.use(await startTcpProxy({ targetPort: 1 }));
    const socket = net.connect({ port: lonely.port, host: "127.0.0.1" });
    const [error] = await once(socket, "error");
    expect(error).toMatchObject({ code: "ECONNRESET" });
  });
});

describe("faults", () => {
  it("latency delays each direction and keeps the order; without it the way is short again", async () => {
    echo();
    const socket = await connect();
    proxy.setLatency(150);
    const received: Buffer[] = [];
    const collect = (data: Buffer) => received.push(data);
    socket.on("data", collect);
    const times = Promise.all([roundTrip(socket, "a"), roundTrip(socket, "b")]);
    socket.write("c");
    for (const ms of await times) {
      expect(ms).toBeGreaterThanOrEqual(295);
      // Both were under way at once: a delay, not a queue of delays.
      expect(ms).toBeLessThan(atMost(590));
    }
    await vi.waitFor(() => expect(Buffer.concat(received).toString()).toBe("abc"));
    proxy.setLatency(0);
    expect(await roundTrip(socket, "d")).toBeLessThan(atMost(150));
  });

  it("a bandwidth is kept, shared by connections, and lifted while bytes wait", async () => {
    echo();
    const [one, two] = [await connect(), await connect()];
    proxy.setBytesPerSecond(100_000);
    const shared = await Promise.all([roundTrip(one, Buffer.alloc(20_000)), roundTrip(two, Buffer.alloc(20_000))]);
    // 40,000 bytes a direction, less the portion that goes first; the way back begins before the way out has ended.
    expect(Math.max(...shared)).toBeGreaterThanOrEqual(375);
    // Neither had to wait for all of the other, nor got the bandwidth for itself.
    expect(Math.min(...shared)).toBeGreaterThanOrEqual(330);
    expect(Math.max(...shared) - Math.min(...shared)).toBeLessThan(atMost(150));
    const long = roundTrip(one, Buffer.alloc(10_000_000));
    await vi.waitFor(() => expect(one.bytesRead).toBeGreaterThan(20_000));
    proxy.setBytesPerSecond(undefined);
    expect(await long).toBeLessThan(atMost(10_000));
  });

  it("a black hole keeps connections and forwards nothing; afterwards what was held arrives", async () => {
    const received: string[] = [];
    target.on("connection", (socket) => socket.on("data", (data) => received.push(String(data))));
    const old = await connect();
    old.write("before ");
    await vi.waitFor(() => expect(received.join("")).toBe("before "));
    proxy.blackhole(true);
    old.write("held ");
    const young = await connect();
    young.write("too");
    await vi.waitFor(() => expect(proxy.connections).toBe(2));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(received.join("")).toBe("before ");
    proxy.blackhole(false);
    await vi.waitFor(() => expect(received.slice(1).sort()).toEqual(["held ", "too"]));
    expect([old.destroyed, young.destroyed]).toEqual([false, false]);
  });

  it("resetAll resets both sides of every connection, says how many, and new ones work", async () => {
    const targetErrors: unknown[] = [];
    target.on("connection", (socket) =>
      socket.on("error", ({ code }: NodeJS.ErrnoException) => targetErrors.push(code)),
    );
    echo();
    const sockets = [await connect(), await connect()];
    await Promise.all(sockets.map((socket) => roundTrip(socket, "hello")));
    const errors = Promise.all(sockets.map((socket) => once(socket, "error")));
    expect(proxy.resetAll()).toBe(2);
    expect((await errors).map(([error]) => error.code)).toEqual(["ECONNRESET", "ECONNRESET"]);
    await vi.waitFor(() => expect(targetErrors).toEqual(["ECONNRESET", "ECONNRESET"]));
    await vi.waitFor(() => expect(proxy.connections).toBe(0));
    await roundTrip(await connect(), "again");
  });

  it("refuse resets new connections only, until it is lifted", async () => {
    echo();
    const old = await connect();
    await roundTrip(old, "hello");
    proxy.refuse(true);
    const young = net.connect({ port: proxy.port, host: "127.0.0.1" });
    const [error] = await once(young, "error");
    expect(error).toMatchObject({ code: "ECONNRESET" });
    await roundTrip(old, "still");
    expect(proxy.connections).toBe(1);
    proxy.refuse(false);
    await roundTrip(await connect(), "welcome");
  });

  it("a port can be asked for, and the target may move between connections", async () => {
    echo();
    await roundTrip(await connect(), "first");
    const { port } = proxy;
    await proxy[Symbol.asyncDispose]();
    const elsewhere = net.createServer((socket) => socket.on("error", () => undefined).end("elsewhere"));
    elsewhere.listen(0, "127.0.0.1");
    await once(elsewhere, "listening");
    stack.defer(() => void elsewhere.close());
    let targetPort = (target.address() as net.AddressInfo).port;
    proxy = stack.use(await startTcpProxy({ targetPort: () => targetPort, port }));
    expect(proxy.port).toBe(port);
    await roundTrip(await connect(), "second");
    targetPort = (elsewhere.address() as net.AddressInfo).port;
    expect(await text(await connect())).toBe("elsewhere");
  });
});
