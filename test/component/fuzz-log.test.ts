// Every decoder of what is on the log, fed as test/component/fuzz.test.ts feeds those of what callers send.
import fc from "fast-check";
import kafkajs from "kafkajs";
import { describe, expect, it } from "vitest";
import { compressionType, compressorOf, registerCodecs } from "#lib/eventlog/kafka/codecs.ts";
import { encodeProduceBody } from "#lib/eventlog/kafka/record-batch.ts";
import { readRecordBatches } from "#lib/eventlog/kafka/record-batch-reader.ts";
import { decodePoint, encodePoint } from "#lib/events/point-record.ts";
import { createRecordEncoder, decodeRecord, type LogEvent, PoisonRecordError } from "#lib/events/record.ts";
import { isOneObject } from "#lib/events/record-json.ts";
import { createRecordScanner } from "#lib/events/record-scanner.ts";
import { makeReplay } from "#lib/events/replay-record.ts";
import { decodeReplayRequest, encodeReplayRequest } from "#lib/events/replay-request.ts";
import { createRowWriter } from "#lib/events/row-writer.ts";
import { anyLogEvent } from "../kit/event-arbitrary.ts";
import { damaged, damagedText, FUZZ_TIMEOUT_MS, fuzz } from "../kit/fuzz.ts";

const MiB = 1024 * 1024;
const OPTIONS = { timeout: FUZZ_TIMEOUT_MS };
const NO_CHANGES = { property: new Map<string, string>() };
const anyEvent = anyLogEvent(fc.string({ maxLength: 20 }), {
  timeUs: fc.integer({ min: 0, max: 2 ** 50 }),
  propertiesJson: fc.dictionary(fc.string(), fc.jsonValue()).map((object) => JSON.stringify(object)),
});
const EVENTS: LogEvent[] = fc.sample(anyEvent, { seed: 1, numRuns: 20 });
const RECORDS = EVENTS.map((event) => createRecordEncoder()(event).slice());

describe("records of the log", OPTIONS, () => {
  it("events: both readers know poison, and every row is one array that ends with its line", async () => {
    const scanner = createRecordScanner();
    const writer = createRowWriter({ epoch: "e", topic: "t", partition: 0 });
    await fuzz(damaged(RECORDS), [PoisonRecordError], (bytes) => decodeRecord(bytes));
    await fuzz(damaged(RECORDS), [PoisonRecordError], (bytes) => {
      scanner.scan(bytes);
      writer.begin(0);
      writer.add(scanner, 1, 1);
      const row = Buffer.from(writer.take());
      expect([endOfArray(row), row.subarray(-2).toString()]).toEqual([row.length - 1, "]\n"]);
    });
  });

  it("points", async () => {
    const point = {
      metric: "cpu",
      value: 1.5,
      tags: ["host:a"],
      timeUs: 1,
      receivedUs: 2,
      relayId: "r",
      collector: "c",
    };
    const sample = encodePoint({ ...point, bootId: Buffer.alloc(16, 1), sequence: 7 } as never);
    await fuzz(damaged([sample]), [PoisonRecordError], (bytes) => decodePoint(bytes));
  });

  it("dead letters are made into records again, or told the rule they break", async () => {
    const place = { epoch: "e", topic: "millrace.events", partition: 0, offset: 3 };
    await fuzz(damaged(RECORDS), [], (value) => {
      const made = makeReplay({ ...place, key: new Uint8Array(0), value, appendTimeMs: 1 }, NO_CHANGES);
      expect(made).toBeTypeOf("object");
    });
    const request = encodeReplayRequest([{ key: Buffer.from("k"), value: Buffer.from("v") }], "t");
    await fuzz(damagedText([request]), [], (text) => decodeReplayRequest(Buffer.from(text)));
  });

  it("properties that pass for one object close on their last byte", async () => {
    const samples = EVENTS.map((event) => event.propertiesJson as string);
    await fuzz(damaged([...samples, '{"a":"}{\\""}', '{"a":[1,{"b":2}]}']), [], (bytes) => {
      if (!isOneObject(bytes, 0, bytes.length)) return;
      expect([bytes[0], bytes.at(-1)]).toEqual([0x7b, 0x7d]);
    });
  });
});

describe("Kafka's record batches", OPTIONS, () => {
  const names = ["none", "gzip", "snappy", "lz4", "zstd"] as const;
  registerCodecs();
  const codecs = kafkajs.CompressionCodecs as unknown as Record<
    number,
    () => { decompress(b: Buffer): Promise<Buffer> }
  >;

  const decompressorOf = (attributes: number) => codecs[attributes & 7]?.().decompress;
  const read = (bytes: Buffer) => readRecordBatches(bytes, decompressorOf);

  it.each(names)("with compression %s", async (name) => {
    const records = RECORDS.slice(0, 5).map((value) => ({ key: Buffer.from("key"), value }));
    const batches = [{ partition: 0, producerId: 1, producerEpoch: 0, firstSequence: 0, records }];
    const produced = { topic: "t", timeoutMs: 1, timestampMs: 1 };
    const body = await encodeProduceBody({ ...produced, batches, compression: compressorOf(name) });
    const batch = body.subarray(body.length - (await batchBytes(body)));
    expect(await read(batch)).toHaveLength(5);
    await fuzz(damaged([batch]), [Error], read);
  });

  it.each([
    ["a length that leads back", 8, -12],
    ["a length that leads to its own start", 8, -61],
    ["more records than bytes", 57, 0x7fffffff],
  ])("with %s: refused at once", async (_, at, value) => {
    const records = RECORDS.slice(0, 5).map((one) => ({ key: Buffer.from("key"), value: one }));
    const batches = [{ partition: 0, producerId: 1, producerEpoch: 0, firstSequence: 0, records }];
    const body = await encodeProduceBody({ topic: "t", timeoutMs: 1, timestampMs: 1, batches, compression: undefined });
    const batch = Buffer.from(body.subarray(body.length - (await batchBytes(body))));
    batch.writeInt32BE(value, at);
    await expect(read(batch)).rejects.toThrow(/a record batch has a length of|malformed/);
  });

  it.each(names.slice(1))("the codec %s by itself unfolds to at most 64 MiB", async (name) => {
    const { compress } = compressorOf(name) as { compress(bytes: Buffer): Promise<Buffer> };
    const samples = [
      await compress(Buffer.from("abcdefgh".repeat(200))),
      await compress(Buffer.from(RECORDS[0] ?? "")),
    ];
    await fuzz(damaged(samples), [Error], async (bytes) => {
      const plain = await codecs[compressionType(name)]?.().decompress(bytes);
      expect(plain?.length).toBeLessThanOrEqual(64 * MiB);
    });
  });
});

/** Where the first array of the text ends; -1 when it does not, or has a control character that JSON has no place for. */
function endOfArray(text: Buffer): number {
  let depth = 0;
  let isString = false;
  for (const [i, byte] of text.entries()) {
    const isBreak = byte === 0x09 || byte === 0x0a || byte === 0x0d;
    if (byte < 0x20 && (isString || !isBreak)) return -1;
    const isEscaped = isString && endsInOddBackslashes(text, i);
    const sign = String.fromCharCode(byte);
    if (sign === '"' && !isEscaped) isString = !isString;
    else if (isString) continue;
    else if (sign === "[" || sign === "{") depth++;
    else if ((sign === "]" || sign === "}") && --depth === 0) return i + 1;
  }
  return -1;
}

function endsInOddBackslashes(text: Buffer, end: number): boolean {
  let count = 0;
  while (text[end - 1 - count] === 0x5c) count++;
  return count % 2 === 1;
}

/** Of a produce request with one partition: what is written before its one batch. */
async function batchBytes(body: Buffer): Promise<number> {
  const topicBytes = 1;
  return body.readInt32BE(2 + 2 + 4 + 4 + 2 + topicBytes + 4 + 4);
}
