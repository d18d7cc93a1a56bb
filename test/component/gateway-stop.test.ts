// From a taken port to the last answer of a gateway that stops.
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1, connectH1, connectH2 } from "../kit/http-calls.ts";
import { atMost } from "../kit/patience.ts";

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const GOOD = { headers: { "content-type": "application/json" }, body: '{"events":[{"event":"e"}]}' };
/** What a stop without waiting takes at most here; far below the deadline, so that reaching that shows. */
const PROMPT_MS = 1_500;
const STOP_TIMEOUT_MS = 4_000;

let gateway: TestGateway;
beforeEach(async () => {
  gateway = await startTestGateway({ stopTimeout: STOP_TIMEOUT_MS, headersTimeout: 60_000 });
});
afterEach(() => gateway[Symbol.asyncDispose]());

async function stopMs(): Promise<number> {
  const begun = performance.now();
  await gateway.stop();
  return performance.now() - begun;
}

describe("stopping", () => {
  it("answers what was accepted before, and refuses new connections", async () => {
    const held = Promise.withResolvers<void>();
    gateway.appendBy((_records, real) => held.promise.then(real));
    using h2 = connectH2(gateway.port);
    const calls = [callH1(gateway.port, PUBLISH, GOOD), h2.call(PUBLISH, GOOD)];
    await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBeGreaterThan(500);
    const stopped = gateway.stop();
    await expect(callH1(gateway.port, PUBLISH, GOOD)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    held.resolve();
    for (const call of calls) expect((await call).text).toBe('{"accepted":1}');
    await stopped;
    expect((await gateway.stored()).length).toBe(2);
  });

  it("does not wait for connections without a request", async () => {
    using h1 = connectH1(gateway.port);
    using h2 = connectH2(gateway.port);
    for (const connection of [h1, h2]) expect((await connection.call(PUBLISH, GOOD)).status).toBe(200);
    const silent = net.connect(gateway.port, "127.0.0.1");
    await once(silent, "connect");
    const halfPreface = net.connect(gateway.port, "127.0.0.1");
    await new Promise((resolve) => halfPreface.write("PRI * HT", resolve));
    const closed = [silent, halfPreface].map(whenClosed);
    expect(await stopMs()).toBeLessThan(atMost(PROMPT_MS));
    await Promise.all(closed);
  });

  it("ends an open stream with a code that clients retry", async () => {
    const client = createClient(EventService, createGrpcTransport({ baseUrl: gateway.url }));
    const never = Promise.withResolvers<void>();
    async function* requests() {
      yield { sequence: 1n, events: [{ event: "e" }] };
      await never.promise;
    }
    const answers = client.publishStream(requests())[Symbol.asyncIterator]();
    expect((await answers.next()).value?.accepted).toBe(1);
    const end = answers.next().then(
      () => undefined,
      (error: unknown) => ConnectError.from(error).code,
    );
    expect(await stopMs()).toBeLessThan(atMost(PROMPT_MS));
    expect(await end).toBe(Code.Unavailable);
    never.resolve();
  });

  it("ends a health watch", async () => {
    const client = createClient(Health, createConnectTransport({ baseUrl: gateway.url, httpVersion: "2" }));
    const states = client.watch({})[Symbol.asyncIterator]();
    await states.next();
    const rest = states.next().catch(() => undefined);
    expect(await stopMs()).toBeLessThan(atMost(PROMPT_MS));
    await rest;
  });

  it("does not wait for HTTP/2 sessions that had bodies refused", async () => {
    const client = createClient(EventService, createConnectTransport({ baseUrl: gateway.url, httpVersion: "2" }));
    const value = JSON.stringify({ a: "x".repeat(30_000_000) });
    const events = [{ event: "e", propertiesKind: { case: "propertiesJson" as const, value } }];
    await expect(client.publish({ events })).rejects.toMatchObject({ code: Code.ResourceExhausted });
    expect(await stopMs()).toBeLessThan(atMost(PROMPT_MS));
  });

  it("cuts off at the deadline callers that do not finish, and an append that hangs", async () => {
    gateway.appendBy(() => new Promise(() => {}));
    const hanging = callH1(gateway.port, PUBLISH, GOOD).catch((error: NodeJS.ErrnoException) => error.code);
    const session = http2.connect(gateway.url);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": PUBLISH, ...GOOD.headers });
    stream.on("error", () => {});
    stream.write("{");
    await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBeGreaterThan(256);
    const ms = await stopMs();
    expect(ms).toBeGreaterThan(STOP_TIMEOUT_MS - 100);
    expect(ms).toBeLessThan(atMost(STOP_TIMEOUT_MS + PROMPT_MS));
    expect(await hanging).toBe("ECONNRESET");
  });

  it("says so to whom is still connected: not ready, and close the connection", async () => {
    const held = Promise.withResolvers<void>();
    gateway.appendBy((_records, real) => held.promise.then(real));
    const socket = net.connect(gateway.port, "127.0.0.1");
    let answer = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    const { body } = GOOD;
    const head = `POST ${PUBLISH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    socket.write(head + body);
    await expect.poll(() => gateway.appends.length).toBe(1);
    const stopped = gateway.stop();
    const closed = once(socket, "close");
    socket.write("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    held.resolve();
    await Promise.all([stopped, closed]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 .*"accepted":1.*HTTP\/1\.1 503 .*connection: close.*"draining"/is);
  });
});

/** However it is closed: unread bytes make a reset of it. */
function whenClosed(socket: net.Socket): Promise<void> {
  socket.on("error", () => {});
  return new Promise((resolve) => socket.on("close", () => resolve()));
}

describe("starting", () => {
  it("on a taken port fails with a sentence that says what to do", async () => {
    await expect(startTestGateway({ port: gateway.port })).rejects.toThrow(
      `Cannot listen on 127.0.0.1:${gateway.port}: another process, or another setting of this one, uses that port. Free it, or set PORT to another port`,
    );
  });
});
