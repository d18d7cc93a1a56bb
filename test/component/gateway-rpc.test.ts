// EventService over every protocol, HTTP version and encoding that the clients of @connectrpc/connect-node speak.
import { promisify } from "node:util";
import zlib from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { type EventSchema, EventService, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";

type EventInit = MessageInitShape<typeof EventSchema>;

const LIMIT = 1024 * 1024;
const IN_FLIGHT_MAX = 8 * 1024 * 1024;
const GOOD: EventInit = { event: "good", distinctId: "u" };

const compressions = (
  [
    ["gzip", zlib.gzip, zlib.gunzip],
    ["deflate", zlib.deflate, zlib.inflate],
    ["br", zlib.brotliCompress, zlib.brotliDecompress],
    ["zstd", zlib.zstdCompress, zlib.zstdDecompress],
  ] as const
).map(([name, encode, decode]) => ({
  name,
  compress: promisify(encode) as (bytes: Uint8Array) => Promise<Uint8Array<ArrayBuffer>>,
  decompress: promisify(decode) as (bytes: Uint8Array) => Promise<Uint8Array<ArrayBuffer>>,
}));
const gzip = compressions[0] as (typeof compressions)[number];

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ maxBatchBytes: LIMIT, maxBytesInFlight: IN_FLIGHT_MAX });
});
afterAll(() => gateway[Symbol.asyncDispose]());

interface Choice {
  httpVersion: "1.1" | "2";
  useBinaryFormat?: boolean;
  compression?: (typeof compressions)[number];
}

const transports: [string, "1.1" | "2", (choice: Choice) => Transport][] = [
  ["connect json", "1.1", (choice) => createConnectTransport({ ...optionsOf(choice), useBinaryFormat: false })],
  ["connect json", "2", (choice) => createConnectTransport({ ...optionsOf(choice), useBinaryFormat: false })],
  ["connect proto", "1.1", (choice) => createConnectTransport({ ...optionsOf(choice), useBinaryFormat: true })],
  ["connect proto", "2", (choice) => createConnectTransport({ ...optionsOf(choice), useBinaryFormat: true })],
  ["grpc", "2", (choice) => createGrpcTransport(optionsOf(choice))],
  ["grpc-web", "1.1", (choice) => createGrpcWebTransport(optionsOf(choice))],
  ["grpc-web", "2", (choice) => createGrpcWebTransport(optionsOf(choice))],
];

function optionsOf({ httpVersion, compression }: Choice) {
  const shared = { baseUrl: gateway.url, httpVersion };
  return compression
    ? { ...shared, acceptCompression: [compression], sendCompression: compression, compressMinBytes: 0 }
    : shared;
}

function failureOf(work: Promise<unknown>): Promise<ConnectError> {
  return work.then(
    () => Promise.reject(new Error("the call succeeded")),
    (error: unknown) => ConnectError.from(error),
  );
}

async function expectIdle(): Promise<void> {
  await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBe(0);
}

describe.each(transports)("%s over HTTP/%s", (_name, httpVersion, transport) => {
  let client: Client<typeof EventService>;
  beforeAll(() => {
    client = createClient(EventService, transport({ httpVersion }));
  });

  it("stores an event and says so", async () => {
    const before = (await gateway.events()).length;
    const time = { seconds: 1_774_612_800n, nanos: 123_456_789 };
    const properties = { $device_id: "d", nested: { list: [1, null, "x"] } };
    const answer = await client.publish({
      events: [{ ...GOOD, value: 0, time, propertiesKind: { case: "properties", value: properties } }],
    });
    expect(answer).toMatchObject({ accepted: 1, rejected: [] });
    const stored = (await gateway.events()).slice(before);
    expect(stored).toMatchObject([{ event: "good", value: 0, timeUs: 1_774_612_800_123_456n, deviceId: "d" }]);
    expect(JSON.parse(Buffer.from(stored[0]?.propertiesJson ?? []).toString())).toEqual(properties);
  });

  it("refuses one bad event by index, code, field and message, and stores its 99 neighbours", async () => {
    const before = (await gateway.events()).length;
    const events: EventInit[] = Array.from({ length: 100 }, () => GOOD);
    events[41] = { event: " " };
    const answer = await client.publish({ events });
    expect(answer.accepted).toBe(99);
    expect(answer.rejected).toMatchObject([
      { index: 41, code: RejectionCode.MISSING, field: "event", retryable: false },
    ]);
    expect(answer.rejected[0]?.message).toContain("blank");
    expect((await gateway.events()).length).toBe(before + 99);
  });

  it("refuses what properties may not be, each by its field", async () => {
    const text = (value: string): EventInit => ({ ...GOOD, propertiesKind: { case: "propertiesJson", value } });
    const object = (json: string): EventInit => {
      const value = JSON.parse(json) as Record<string, never>;
      return { ...GOOD, propertiesKind: { case: "properties", value } };
    };
    const deep = `{"a":${'{"b":'.repeat(35)}1${"}".repeat(36)}`;
    const events = [
      text("{"),
      text("[]"),
      text('{"a":1,"\\u0061":2}'),
      text('{"a":NaN}'),
      text("\ufeff{}"),
      text(deep),
      object(deep),
      text(`{"a":"${"x".repeat(900_001)}"}`),
    ];
    const { accepted, rejected } = await client.publish({ events });
    expect(accepted).toBe(0);
    expect(rejected.map(({ index, code, field }) => [index, RejectionCode[code as never], field])).toEqual([
      [0, RejectionCode[RejectionCode.INVALID as never], "properties"],
      [1, RejectionCode[RejectionCode.INVALID as never], "properties"],
      [2, RejectionCode[RejectionCode.INVALID as never], "properties.a"],
      [3, RejectionCode[RejectionCode.INVALID as never], "properties"],
      [4, RejectionCode[RejectionCode.INVALID as never], "properties"],
      [5, RejectionCode[RejectionCode.TOO_COMPLEX as never], "properties.a.b.b"],
      [6, RejectionCode[RejectionCode.TOO_COMPLEX as never], "properties.a.b.b"],
      [7, RejectionCode[RejectionCode.TOO_LARGE as never], "properties"],
    ]);
  });

  it("stores properties_json as it was sent, a key named __proto__ included", async () => {
    const texts = [
      '{"__proto__":{"polluted":1},"constructor":{"prototype":2}}',
      '{ "n" : 9007199254740993,\r\n\t"d":1.10,"e":1e400,"z":-0 }',
      '{"emoji":"\\ud83d\\ude00","é":"\\u00e9\\/"}',
    ];
    const events = texts.map(
      (value): EventInit => ({ ...GOOD, propertiesKind: { case: "propertiesJson", value: ` ${value}\n` } }),
    );
    const before = (await gateway.events()).length;
    expect((await client.publish({ events })).accepted).toBe(texts.length);
    const stored = (await gateway.events()).slice(before).map((event) => Buffer.from(event.propertiesJson).toString());
    expect(stored).toEqual(texts);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("takes 10,000 events, and refuses 10,001 and none by name", async () => {
    const events = (count: number) => Array.from({ length: count }, () => ({ event: "e" }));
    expect((await client.publish({ events: events(10_000) })).accepted).toBe(10_000);
    const many = await failureOf(client.publish({ events: events(10_001) }));
    expect([many.code, many.rawMessage]).toEqual([
      Code.ResourceExhausted,
      "events: has 10001 events; one request may have 10000",
    ]);
    const none = await failureOf(client.publish({ events: [] }));
    expect([none.code, none.rawMessage]).toEqual([Code.InvalidArgument, "events: must have at least one event"]);
  });

  it("refuses six bodies over the limit in a row, and takes the next one", async () => {
    const value = JSON.stringify({ a: "x".repeat(2 * LIMIT) });
    for (let i = 0; i < 6; i++) {
      const large: EventInit = { ...GOOD, propertiesKind: { case: "propertiesJson", value } };
      expect((await failureOf(client.publish({ events: [large] }))).code).toBe(Code.ResourceExhausted);
    }
    expect((await client.publish({ events: [GOOD] })).accepted).toBe(1);
    await expectIdle();
  });

  it.each(compressions)("takes and gives $name", async (compression) => {
    const compressed = createClient(EventService, transport({ httpVersion, compression }));
    const events = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? GOOD : { event: "" }));
    const answer = await compressed.publish({ events });
    expect([answer.accepted, answer.rejected.length]).toEqual([100, 100]);
  });

  it("refuses a message that unpacks beyond the limit", async () => {
    const compressed = createClient(EventService, transport({ httpVersion, compression: gzip }));
    const value = JSON.stringify({ a: "x".repeat(50 * LIMIT) });
    const bomb: EventInit = { ...GOOD, propertiesKind: { case: "propertiesJson", value } };
    expect((await failureOf(compressed.publish({ events: [bomb] }))).code).toBe(Code.ResourceExhausted);
    expect((await compressed.publish({ events: [GOOD] })).accepted).toBe(1);
    await expectIdle();
  });

  it("answers grpc.health.v1 Check", async () => {
    const health = createClient(Health, transport({ httpVersion }));
    expect((await health.check({})).status).toBe(HealthCheckResponse_ServingStatus.SERVING);
    expect((await health.check({ service: EventService.typeName })).status).toBe(
      HealthCheckResponse_ServingStatus.SERVING,
    );
    expect((await failureOf(health.check({ service: "nope" }))).code).toBe(Code.NotFound);
  });

  it("sends the first state to who watches grpc.health.v1", async () => {
    const health = createClient(Health, transport({ httpVersion }));
    const leaving = new AbortController();
    const states = health.watch({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    expect((await states.next()).value?.status).toBe(HealthCheckResponse_ServingStatus.SERVING);
    leaving.abort();
    expect((await failureOf(states.next())).code).toBe(Code.Canceled);
    await expectIdle();
  });
});

describe.each(transports.filter(([, httpVersion]) => httpVersion === "2"))(
  "streams of %s",
  (name, httpVersion, transport) => {
    it("are answered request by request, in order, bad ones among them", async () => {
      const client = createClient(EventService, transport({ httpVersion }));
      async function* requests() {
        for (let i = 1; i <= 50; i++)
          yield { sequence: BigInt(i), events: i % 10 === 0 ? [GOOD, { event: "" }] : [GOOD] };
      }
      const answers = await Array.fromAsync(client.publishStream(requests()));
      expect(answers.map(({ sequence }) => Number(sequence))).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
      expect(answers.map(({ accepted }) => accepted)).toEqual(Array.from({ length: 50 }, () => 1));
      expect(answers.filter(({ rejected }) => rejected.length === 1).length).toBe(5);
      await expectIdle();
    });

    it("are answered while they go on", async () => {
      const client = createClient(EventService, transport({ httpVersion }));
      const answered = Promise.withResolvers<void>();
      async function* requests() {
        yield { sequence: 1n, events: [GOOD] };
        await answered.promise;
        yield { sequence: 2n, events: [GOOD] };
      }
      const sequences: bigint[] = [];
      for await (const { sequence } of client.publishStream(requests())) {
        sequences.push(sequence);
        answered.resolve();
      }
      expect(sequences).toEqual([1n, 2n]);
    });

    it("end with the reason at a request without events", async () => {
      const client = createClient(EventService, transport({ httpVersion }));
      async function* requests() {
        yield { sequence: 1n, events: [GOOD] };
        yield { sequence: 2n, events: [] };
      }
      const answers = client.publishStream(requests())[Symbol.asyncIterator]();
      expect((await answers.next()).value?.accepted).toBe(1);
      expect((await failureOf(answers.next())).code).toBe(Code.InvalidArgument);
      await expectIdle();
    });

    it("hold nothing of what has been answered", async () => {
      const client = createClient(EventService, transport({ httpVersion }));
      const value = JSON.stringify({ a: "x".repeat(500_000) });
      const count = Math.ceil((3 * IN_FLIGHT_MAX) / value.length);
      async function* requests() {
        // Three times what may be in flight at once, over one stream.
        for (let i = 0; i < count; i++) {
          yield {
            sequence: BigInt(i),
            events: [{ ...GOOD, propertiesKind: { case: "propertiesJson" as const, value } }],
          };
        }
      }
      let accepted = 0;
      for await (const answer of client.publishStream(requests())) accepted += answer.accepted;
      expect([name, accepted]).toEqual([name, count]);
      await expectIdle();
    });
  },
);
