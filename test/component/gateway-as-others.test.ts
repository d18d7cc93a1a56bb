// HTTP as others speak it: proxies, browsers with tracing, gRPC tools. What they send is taken, or refused in words.
import zlib from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ServerReflection, ServerReflectionRequestSchema } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { StatsService } from "#gen/millrace/stats/v1/stats_pb.ts";
import { KEY, ORIGIN } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1, connectH2 } from "../kit/http-calls.ts";
import { JSON_TYPE, PUBLISH } from "../kit/watched-gateway.ts";

const BATCH = JSON.stringify({ api_key: KEY, batch: [{ event: "e", distinct_id: "u" }] });
const EVENT = JSON.stringify({ event_type: "e", source: "s", created_at: "2026-11-21T10:00:00Z" });
const RPC = JSON.stringify({ events: [{ event: "e" }] });
const WITH_KEY = { ...JSON_TYPE, "x-api-key": KEY };

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY], allowedOrigins: [ORIGIN] });
});
afterAll(() => gateway[Symbol.asyncDispose]());

describe("a preflight of a listed page", () => {
  const asked = [
    ...["traceparent", "tracestate", "baggage", "sentry-trace", "b3", "X-B3-TraceId", "x-request-id", "newrelic"],
    ...["x-datadog-trace-id", "uber-trace-id", "authorization", "x-api-key", "x-auth-token"],
  ];

  it.each(["/batch/", "/events", "/events/", PUBLISH])("grants what it asks for at %s", async (path) => {
    const headers = { origin: ORIGIN, "access-control-request-method": "POST" };
    const ask = (names: string) =>
      callH1(gateway.port, path, {
        method: "OPTIONS",
        headers: { ...headers, "access-control-request-headers": names },
      });
    const answer = await ask(asked.join(","));
    expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([204, ORIGIN]);
    const granted = answer.headers["access-control-allow-headers"]?.split(", ");
    expect(granted).toEqual(expect.arrayContaining(["content-type", ...asked.map((name) => name.toLowerCase())]));
    expect(new Set(granted).size).toBe(granted?.length);
    const odd = await ask(`a b, c:d, ,${"x".repeat(500)},${Array.from({ length: 500 }, (_, n) => `h${n}`).join()}`);
    expect(odd.headers["access-control-allow-headers"]).not.toMatch(/a b|c:d|xxx|h100/);
  });

  it("is followed by an answer that the page can read, at /events too", async () => {
    const answer = await callH1(gateway.port, "/events", { headers: { ...WITH_KEY, origin: ORIGIN }, body: EVENT });
    expect([answer.status, answer.headers["access-control-allow-origin"]]).toEqual([200, ORIGIN]);
  });
});

describe("content codings in every spelling", () => {
  const packed = (body: string, ...codings: string[]) =>
    codings.reduce<Buffer>((bytes, name) => PACK[name]?.(bytes) ?? bytes, Buffer.from(body));
  const PACK: Record<string, (bytes: Buffer) => Buffer> = {
    gzip: zlib.gzipSync,
    br: zlib.brotliCompressSync,
    zstd: zlib.zstdCompressSync,
  };
  const cases: [string, string[]][] = [
    ["gzip", ["gzip"]],
    ["x-gzip", ["gzip"]],
    ["X-GZip", ["gzip"]],
    [" GZIP ", ["gzip"]],
    ["identity", []],
    ["Identity, identity", []],
    ["gzip, identity", ["gzip"]],
    ["identity,ZSTD", ["zstd"]],
    ["gzip,", ["gzip"]],
  ];
  const several: [string, string[]][] = [
    ["gzip, gzip", ["gzip", "gzip"]],
    ["gzip, br", ["gzip", "br"]],
    ["x-gzip,identity, BR , zstd", ["gzip", "br", "zstd"]],
  ];

  it.each([...cases, ...several])("%s at /batch/ and /events", async (encoding, codings) => {
    for (const [path, body] of [
      ["/batch/", BATCH],
      ["/events", EVENT],
    ] as const) {
      const headers = { ...WITH_KEY, "content-encoding": encoding };
      const answer = await callH1(gateway.port, path, { headers, body: packed(body, ...codings) });
      expect([answer.status, answer.text]).toEqual([200, expect.any(String)]);
    }
  });

  it.each(cases)("%s of a Connect RPC", async (encoding, codings) => {
    const headers = { ...WITH_KEY, "content-encoding": encoding };
    const answer = await callH1(gateway.port, PUBLISH, { headers, body: packed(RPC, ...codings) });
    expect([answer.status, answer.text]).toEqual([200, '{"accepted":1}']);
  });

  it("a bomb within a bomb is refused while it unpacks", async () => {
    const inner = zlib.gzipSync(Buffer.alloc(200_000_000, 0x20), { level: 9 });
    const headers = { ...WITH_KEY, "content-encoding": "gzip, gzip" };
    const before = process.memoryUsage().rss;
    const answer = await callH1(gateway.port, "/batch/", { headers, body: zlib.gzipSync(inner) });
    expect([413, 503]).toContain(answer.status);
    expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000);
    await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBe(0);
  });
});

describe("refusals have words", () => {
  it.each([
    ["a content type of none", "POST", { "content-type": "text/html" }, 415, "content-type: must be application/json"],
    ["no content type", "POST", {}, 415, "content-type: must be application/json"],
    ["another method", "PUT", JSON_TYPE, 405, "method: must be POST, not PUT"],
  ])("of an RPC by %s", async (_, method, headers, status, words) => {
    using h2 = connectH2(gateway.port);
    const call = { method, headers: { ...headers, "x-api-key": KEY }, body: RPC };
    for (const answer of [await callH1(gateway.port, PUBLISH, call), await h2.call(PUBLISH, call)]) {
      expect([answer.status, answer.headers["content-type"]]).toEqual([status, "application/json"]);
      expect((JSON.parse(answer.text) as { message: string }).message).toContain(words);
    }
  });

  it.each(["/nowhere?token=SECRET", "/batch/x?data=SECRET", "/a#SECRET", "/%zz?token=SECRET"])(
    "and repeat nothing of a query: %s",
    async (path) => {
      const answer = await callH1(gateway.port, path, { headers: WITH_KEY, body: EVENT });
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.text).not.toContain("SECRET");
    },
  );
});

it("16 KiB of cookies beside the usual headers are taken, over HTTP/1.1 and HTTP/2", async () => {
  using h2 = connectH2(gateway.port);
  const call = { headers: { ...WITH_KEY, cookie: `a=${"x".repeat(17_000)}` }, body: EVENT };
  for (const answer of [await callH1(gateway.port, "/events", call), await h2.call("/events", call)]) {
    expect(answer.status).toBe(200);
  }
});

it("an idle connection is kept longer than load balancers keep theirs", async () => {
  const answer = await callH1(gateway.port, "/healthz", { method: "GET", headers: { connection: "keep-alive" } });
  expect(answer.headers["keep-alive"]).toBe("timeout=620");
});

describe("gRPC tools", () => {
  it("are told that an RPC is not there by grpc-status 12", async () => {
    const transports = [
      createGrpcTransport({ baseUrl: gateway.url }),
      createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "1.1" }),
      createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "2" }),
    ];
    for (const transport of transports) {
      const error = await createClient(StatsService, transport)
        .listMetrics({})
        .catch((failure: unknown) => ConnectError.from(failure));
      expect(error).toMatchObject({ code: Code.Unimplemented });
      expect((error as ConnectError).rawMessage).toContain(
        "/millrace.stats.v1.StatsService/ListMetrics is unknown here",
      );
    }
  });

  it("list services, and read what their messages are made of, without a key", async () => {
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: gateway.url }));
    expect(await ask(client, { case: "listServices", value: "" })).toMatchObject({
      case: "listServicesResponse",
      value: {
        service: [
          { name: "grpc.health.v1.Health" },
          { name: "grpc.reflection.v1.ServerReflection" },
          { name: "millrace.events.v1.EventService" },
        ],
      },
    });
    for (const symbol of [
      "millrace.events.v1.EventService",
      "millrace.events.v1.EventService.Publish",
      "millrace.events.v1.Event",
    ]) {
      const found = await ask(client, { case: "fileContainingSymbol", value: symbol });
      expect([symbol, found.case]).toEqual([symbol, "fileDescriptorResponse"]);
    }
    const struct = await ask(client, { case: "fileByFilename", value: "google/protobuf/struct.proto" });
    expect(struct.case).toBe("fileDescriptorResponse");
    const unknown = await ask(client, { case: "fileContainingSymbol", value: "no.Such" });
    expect(unknown).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
  });
});

type Question = NonNullable<Parameters<typeof create<typeof ServerReflectionRequestSchema>>[1]>["messageRequest"];

async function ask(client: Client<typeof ServerReflection>, messageRequest: Question) {
  async function* requests() {
    yield create(ServerReflectionRequestSchema, { messageRequest } as never);
  }
  const [answer] = await Array.fromAsync(client.serverReflectionInfo(requests()));
  return answer?.messageResponse as { case: string | undefined; value?: unknown };
}
