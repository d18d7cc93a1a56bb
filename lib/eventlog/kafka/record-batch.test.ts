import { createRequire } from "node:module";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { AppendRecord } from "../log.ts";
import { patchKafkajs } from "./patches.ts";
import { encodeProduceBody, HEAD_ROOM_BYTES, type ProduceRequest } from "./record-batch.ts";

type Encoded = { buf: Buffer; buffer: Buffer; room?: number };
type WholeRequest = (of: object) => Promise<Encoded>;
type PlainRequest = (fields: object) => { encode(): Promise<{ buffer: Buffer }> };
const plainRequest = createRequire(import.meta.url)("kafkajs/src/protocol/requests/produce/v7/request") as PlainRequest;
const wholeRequest = createRequire(import.meta.url)("kafkajs/src/protocol/request") as WholeRequest;
const IDENTITY = { producerId: 2 ** 40 + 5, producerEpoch: 3 };
const NOW = 1_800_000_000_123;

beforeEach(() => vi.useFakeTimers({ now: NOW, toFake: ["Date"] }));
afterEach(() => vi.useRealTimers());

/** The same request as kafkajs encodes it. */
async function plain(request: ProduceRequest): Promise<Buffer> {
  const partitions = request.batches.map(({ partition, firstSequence, records }) => ({
    partition,
    firstSequence,
    messages: records.map(({ key, value, traceparent }) => ({
      key: Buffer.from(key),
      value: Buffer.from(value),
      ...(traceparent ? { headers: { traceparent } } : {}),
    })),
  }));
  const { encode } = plainRequest({
    acks: -1,
    timeout: request.timeoutMs,
    transactionalId: null,
    ...IDENTITY,
    compression: 0,
    topicData: [{ topic: request.topic, partitions }],
  });
  return (await encode()).buffer;
}

function requestOf(batches: ProduceRequest["batches"]): ProduceRequest {
  return {
    topic: "millrace.événements",
    batches,
    timeoutMs: 5000,
    timestampMs: NOW,
    compression: undefined,
  };
}

const record = fc.record({
  key: fc.uint8Array({ maxLength: 80 }),
  value: fc.uint8Array({ maxLength: 300 }),
  traceparent: fc.option(fc.constantFrom("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "é"), {
    nil: undefined,
  }),
});
const batch = fc.record({
  producerId: fc.constant(IDENTITY.producerId),
  producerEpoch: fc.constant(IDENTITY.producerEpoch),
  partition: fc.nat(0x7fffffff),
  firstSequence: fc.nat(0x7fffffff),
  records: fc.array(record, { minLength: 1, maxLength: 200 }),
});

it("writes the bytes that kafkajs writes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 4 }), async (batches) => {
      const request = requestOf(batches);
      expect((await encodeProduceBody(request)).equals(await plain(request))).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it("writes the bytes that kafkajs writes for large values and many records", async () => {
  const large: AppendRecord = { key: Buffer.from("k"), value: Buffer.alloc(900_000, 7) };
  const many = Array.from({ length: 20_000 }, (_, i) => ({ key: Buffer.from(`${i}`), value: Buffer.from("v") }));
  const request = requestOf([
    { ...IDENTITY, partition: 0, firstSequence: 0, records: [large] },
    { ...IDENTITY, partition: 1, firstSequence: 5, records: many },
  ]);
  expect((await encodeProduceBody(request)).equals(await plain(request))).toBe(true);
});

it("compresses the records and nothing else of a batch", async () => {
  const records = [{ key: Buffer.from("key"), value: Buffer.alloc(10_000, 1) }];
  const batches = [{ ...IDENTITY, partition: 0, firstSequence: 0, records }];
  const uncompressed = await encodeProduceBody(requestOf(batches));
  const compress = promisify(gzip) as (bytes: Buffer) => Promise<Buffer>;
  const compressed = await encodeProduceBody({ ...requestOf(batches), compression: { type: 1, compress } });
  const headBytes = uncompressed.indexOf(Buffer.from([2]), uncompressed.length - 10_061) - 16 + 61;
  expect(compressed.length).toBeLessThan(uncompressed.length / 10);
  const [recordsOf] = [compressed.subarray(headBytes)];
  expect(await promisify(gunzip)(recordsOf)).toEqual(uncompressed.subarray(headBytes));
});

it("leaves records uncompressed that compression makes longer", async () => {
  const records = [{ key: Buffer.from("key"), value: Buffer.from("v") }];
  const batches = [{ ...IDENTITY, partition: 0, firstSequence: 0, records }];
  const compress = async (bytes: Buffer) => Buffer.concat([bytes, bytes]);
  const compressed = await encodeProduceBody({ ...requestOf(batches), compression: { type: 1, compress } });
  expect(compressed).toEqual(await encodeProduceBody(requestOf(batches)));
});

it("has kafkajs write the head of the request in front of it, where it lies", async () => {
  patchKafkajs();
  const request = requestOf([
    { ...IDENTITY, partition: 0, firstSequence: 0, records: [{ key: Buffer.from("key"), value: Buffer.from("v") }] },
  ]);
  const sent = async (encoded: Encoded, clientId: string) => {
    const encode = async () => encoded;
    return (await wholeRequest({ correlationId: 7, clientId, request: { apiKey: 0, apiVersion: 7, encode } })).buffer;
  };
  for (const clientId of ["gateway", "x".repeat(1000)]) {
    const body = await encodeProduceBody(request);
    const copied = await sent({ buf: body, buffer: body }, clientId);
    const inPlace = await sent({ buf: body, buffer: body, room: HEAD_ROOM_BYTES }, clientId);
    expect(inPlace).toEqual(copied);
    expect(inPlace.buffer === body.buffer).toBe(clientId === "gateway");
  }
});
