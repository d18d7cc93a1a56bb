import { createRequire } from "node:module";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { AppendRecord, StoredRecord } from "../log.ts";
import { encodeProduceBody } from "./record-batch.ts";
import { type Decompressor, readRecordBatches } from "./record-batch-reader.ts";

interface PlainRecord {
  offset: string;
  timestamp: string;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, Buffer>;
}

const require = createRequire(import.meta.url);
const Decoder = require("kafkajs/src/protocol/decoder") as new (bytes: Buffer) => object;
const plainRead = asKafkajsHasIt("kafkajs/src/protocol/requests/fetch/v4/decodeMessages") as (
  decoder: object,
) => Promise<PlainRecord[]>;
const TOPIC = "t";
/** Before the batches in a produce request of one partition: acks and lengths, topic, partition. */
const REQUEST_HEAD_BYTES = 2 + 2 + 4 + 4 + 2 + TOPIC.length + 4 + 8;
const GZIP = 1;
const decompressorOf: Decompressor = (attributes) => ((attributes & 7) === GZIP ? promisify(gunzip) : undefined);

const records: fc.Arbitrary<AppendRecord[]> = fc.array(
  fc.record({
    key: fc.uint8Array({ maxLength: 70 }),
    value: fc.uint8Array({ maxLength: 300 }),
    traceparent: fc.option(fc.constantFrom("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "é"), {
      nil: undefined,
    }),
  }),
  { minLength: 1, maxLength: 80 },
);
const batch = fc.record({
  records,
  isCompressed: fc.boolean(),
  isAppendTime: fc.boolean(),
  baseOffset: fc.nat({ max: 2 ** 40 }),
  maxTimestampMs: fc.integer({ min: 1_700_000_000_000, max: 1_900_000_000_000 }),
});

/** Also where patches.ts, loaded by another test of this process, has put ours in its place. */
function asKafkajsHasIt(module: string): unknown {
  const path = require.resolve(module);
  const loaded = require.cache[path];
  delete require.cache[path];
  const original: unknown = require(path);
  if (loaded) require.cache[path] = loaded;
  return original;
}

/** As the broker keeps it: with its own offset, and its own time if the topic has that. */
async function batchBytes({
  records,
  isCompressed,
  isAppendTime,
  baseOffset,
  maxTimestampMs,
}: typeof batch extends fc.Arbitrary<infer T> ? T : never) {
  const body = await encodeProduceBody({
    ...{ topic: TOPIC, batches: [{ partition: 0, producerId: 1, producerEpoch: 0, firstSequence: 0, records }] },
    ...{ timeoutMs: 1000, timestampMs: 1_800_000_000_123 },
    compression: isCompressed
      ? { type: GZIP, compress: promisify(gzip) as (bytes: Buffer) => Promise<Buffer> }
      : undefined,
  });
  const bytes = Buffer.from(body.subarray(REQUEST_HEAD_BYTES));
  bytes.writeBigInt64BE(BigInt(baseOffset), 0);
  if (!isAppendTime) return bytes;
  bytes.writeInt16BE(bytes.readInt16BE(21) | 8, 21);
  bytes.writeBigInt64BE(BigInt(maxTimestampMs), 35);
  return bytes;
}

async function plain(bytes: Buffer): Promise<StoredRecord[]> {
  const size = Buffer.alloc(4);
  size.writeInt32BE(bytes.length);
  const read = await plainRead(new Decoder(Buffer.concat([size, bytes])));
  return read.map(({ offset, timestamp, key, value, headers }) => ({
    ...{ offset: Number(offset), appendTimeMs: Number(timestamp) },
    ...{ key: key ?? Buffer.alloc(0), value: value ?? Buffer.alloc(0) },
    ...(headers.traceparent === undefined ? {} : { traceparent: String(headers.traceparent) }),
  }));
}

it("reads what kafkajs reads, also of an answer that is cut anywhere", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(batch, { minLength: 1, maxLength: 3 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (batches, share) => {
        const whole = Buffer.concat(await Promise.all(batches.map(batchBytes)));
        expect(await readRecordBatches(whole, decompressorOf)).toEqual(await plain(whole));
        const cut = whole.subarray(0, Math.max(61, Math.floor(whole.length * share)));
        expect(await readRecordBatches(cut, decompressorOf)).toEqual(await plain(cut));
      },
    ),
    { numRuns: 60 },
  );
});

it("refuses bytes that are no records, whichever byte is changed", async () => {
  const sent = Array.from({ length: 3 }, (_, n) => ({ key: Buffer.from(`k${n}`), value: Buffer.alloc(40, n) }));
  const bytes = await batchBytes({
    records: sent,
    isCompressed: false,
    isAppendTime: true,
    baseOffset: 5,
    maxTimestampMs: 1,
  });
  for (let at = 61; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = 0xff;
    // Within the bounds of a record nothing tells; a length that leaves them is not followed.
    const read = await readRecordBatches(changed, decompressorOf).catch((error: Error) => error.message);
    if (typeof read === "string") expect(read).toMatch(/malformed/);
    else for (const { key, value } of read) expect(key.length + value.length).toBeLessThanOrEqual(42);
  }
});
