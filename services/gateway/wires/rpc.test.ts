import { getEventListeners } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, it } from "vitest";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import { createLogger } from "#lib/process/log.ts";
import type { Ingest } from "../ingest.ts";
import { type RpcCall, registerEventService } from "./rpc.ts";

const stopping = new AbortController();
const lines: string[] = [];
let publish: Ingest["publish"];
let server: http2.Http2Server;
let baseUrl: string;

beforeEach(async () => {
  publish = async ({ events }) => ({ accepted: events.length, rejected: [] });
  const handler = createRpcHandler<RpcCall>({
    maxMessageBytes: 1_000_000,
    keepsDeadlines: false,
    shutdownSignal: stopping.signal,
    logger: createLogger({ level: "info", service: "test", stream: { write: (line: string) => lines.push(line) } }),
    routes: (router, callOf) =>
      registerEventService(router, callOf, { ingest: { publish: (request) => publish(request) }, maxEvents: 10 }),
  });
  const entry: RpcCall["entry"] = {
    dialect: "grpc",
    lease: { grow: () => true, reset() {}, release() {} },
    admit: (_events, checkStored) => ({
      ...{ receivedUs: 0, apiKey: "", trusted: false, ip: "", userAgent: "", checkStored },
    }),
    [Symbol.dispose]() {},
  };
  server = http2.createServer((request, response) => {
    void handler.handle(request, response, request.url, { entry, traceparent: undefined });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  lines.length = 0;
});
afterEach(() => server.close());

const listeners = () => getEventListeners(stopping.signal, "abort").length;

it("leaves no listener behind on the stop signal, and one a call while it runs", async () => {
  const client = createClient(EventService, createGrpcTransport({ baseUrl }));
  for (let i = 0; i < 5; i++) await client.publish({ events: [{ event: "e" }] });
  await expect.poll(listeners).toBe(0);
  async function* requests() {
    for (let i = 0; i < 100; i++) yield { sequence: BigInt(i), events: [{ event: "e" }] };
  }
  const seen = new Set<number>();
  for await (const _answer of client.publishStream(requests())) seen.add(listeners());
  // The last answer may be read after the call has ended.
  expect(Math.max(...seen)).toBe(1);
  await expect.poll(listeners).toBe(0);
});

it("answers a bug with internal and nothing of it, and logs it, for unary calls and streams", async () => {
  publish = () => Promise.reject(new TypeError("a bug with secrets"));
  const client = createClient(EventService, createGrpcTransport({ baseUrl }));
  async function* requests() {
    yield { sequence: 1n, events: [{ event: "e" }] };
  }
  for (const call of [
    client.publish({ events: [{ event: "e" }] }),
    Array.fromAsync(client.publishStream(requests())),
  ]) {
    const error = await call.then(
      () => undefined,
      (failure: unknown) => ConnectError.from(failure),
    );
    expect([error?.code, error?.rawMessage]).toEqual([Code.Internal, "internal error"]);
  }
  expect(lines.map((line) => (JSON.parse(line) as { err: { message: string } }).err.message)).toEqual([
    "a bug with secrets",
    "a bug with secrets",
  ]);
});
