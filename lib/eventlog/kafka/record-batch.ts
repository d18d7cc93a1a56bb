// Record batches (magic 2) and the produce request around them, written in one pass into one buffer. kafkajs assembles
// each record from encoders of its own, which cost more than all the rest of the gateway; kafka-record-batch.test.ts
// holds these bytes to kafkajs's, field for field.
// Format: Kafka protocol guide, "Record Batch" and "Produce API", versions 3 to 8.

import type { AppendRecord } from "../log.ts";
import { crc32c } from "./crc32c.ts";

export interface RecordBatch {
  partition: number;
  producerId: number;
  producerEpoch: number;
  /** Sequence number of the first record under that identity. */
  firstSequence: number;
  records: readonly AppendRecord[];
}

export interface ProduceRequest {
  topic: string;
  batches: readonly RecordBatch[];
  timeoutMs: number;
  /** Create time of the records, milliseconds; a topic with LogAppendTime replaces it. */
  timestampMs: number;
  compression: { type: number; compress(records: Buffer): Promise<Buffer> } | undefined;
}

const ACKS_ALL = -1;
const MAGIC = 2;
/** From the base offset to the record count, both included. */
const BATCH_HEAD_BYTES = 61;
/** Where the checksum is, and what it covers: everything after it. */
const CRC_AT = 17;
const CHECKED_FROM = 21;
const RECORDS_AT = 61;
/** Five varints of at most five bytes, attributes, timestamp delta. */
const RECORD_FRAME_BYTES = 32;
const TRACE_HEADER = Buffer.from("traceparent");

/** Body of the request: what follows client id in a produce request. */
export async function encodeProduceBody(request: ProduceRequest): Promise<Buffer> {
  const { topic, batches, compression } = request;
  const encoded: Uint8Array[] = [];
  for (const batch of batches) {
    const plain = encodeBatch(batch, request);
    encoded.push(compression ? await compressBatch(plain, compression) : plain);
  }
  const head = Buffer.alloc(2 + 2 + 4 + 4 + 2 + Buffer.byteLength(topic) + 4);
  let at = head.writeInt16BE(-1, 0); // no transaction
  at = head.writeInt16BE(ACKS_ALL, at);
  at = head.writeInt32BE(request.timeoutMs, at);
  at = head.writeInt32BE(1, at); // topics
  at = head.writeInt16BE(Buffer.byteLength(topic), at);
  at += head.write(topic, at);
  head.writeInt32BE(batches.length, at);
  const parts: Uint8Array[] = [head];
  for (const [i, bytes] of encoded.entries()) {
    const partition = Buffer.alloc(8);
    partition.writeInt32BE((batches[i] as RecordBatch).partition, 0);
    partition.writeInt32BE(bytes.length, 4);
    parts.push(partition, bytes);
  }
  return Buffer.concat(parts);
}

function encodeBatch(batch: RecordBatch, request: ProduceRequest): Buffer {
  let bound = BATCH_HEAD_BYTES;
  for (const { key, value, traceparent } of batch.records) {
    bound += key.length + value.length + RECORD_FRAME_BYTES;
    if (traceparent) bound += TRACE_HEADER.length + Buffer.byteLength(traceparent) + 10;
  }
  const buffer = Buffer.allocUnsafe(bound);
  let at = RECORDS_AT;
  for (let i = 0; i < batch.records.length; i++) at = writeRecord(buffer, at, batch.records[i] as AppendRecord, i);
  buffer.writeBigInt64BE(0n, 0); // base offset: the broker's to give
  buffer.writeInt32BE(at - 12, 8);
  buffer.writeInt32BE(0, 12); // leader epoch: unknown to producers
  buffer.writeInt8(MAGIC, 16);
  buffer.writeInt16BE(0, 21); // attributes: not compressed, create time, no transaction
  buffer.writeInt32BE(batch.records.length - 1, 23);
  buffer.writeBigInt64BE(BigInt(request.timestampMs), 27);
  buffer.writeBigInt64BE(BigInt(request.timestampMs), 35);
  buffer.writeBigInt64BE(BigInt(batch.producerId), 43);
  buffer.writeInt16BE(batch.producerEpoch, 51);
  buffer.writeInt32BE(batch.firstSequence, 53);
  buffer.writeInt32BE(batch.records.length, 57);
  const bytes = buffer.subarray(0, at);
  sealBatch(bytes);
  return bytes;
}

async function compressBatch(
  plain: Buffer,
  { type, compress }: NonNullable<ProduceRequest["compression"]>,
): Promise<Buffer> {
  const records = await compress(plain.subarray(RECORDS_AT));
  const bytes = Buffer.concat([plain.subarray(0, RECORDS_AT), records]);
  bytes.writeInt32BE(bytes.length - 12, 8);
  bytes.writeInt16BE(type, 21);
  sealBatch(bytes);
  return bytes;
}

function sealBatch(bytes: Buffer): void {
  bytes.writeUInt32BE(crc32c(bytes, CHECKED_FROM, bytes.length), CRC_AT);
}

/** All records carry the batch's own timestamp, so that their delta is 0. */
function writeRecord(buffer: Buffer, start: number, record: AppendRecord, offsetDelta: number): number {
  const { key, value, traceparent } = record;
  const traceBytes = traceparent ? Buffer.byteLength(traceparent) : 0;
  let size =
    3 + varintBytes(offsetDelta) + varintBytes(key.length) + key.length + varintBytes(value.length) + value.length;
  if (traceBytes > 0) size += 1 + TRACE_HEADER.length + varintBytes(traceBytes) + traceBytes;
  let at = writeVarint(buffer, start, size);
  buffer[at++] = 0; // attributes
  buffer[at++] = 0; // timestamp delta
  at = writeVarint(buffer, at, offsetDelta);
  at = writeVarint(buffer, at, key.length);
  buffer.set(key, at);
  at += key.length;
  at = writeVarint(buffer, at, value.length);
  buffer.set(value, at);
  at += value.length;
  at = writeVarint(buffer, at, traceBytes > 0 ? 1 : 0);
  if (!traceparent) return at;
  at = writeVarint(buffer, at, TRACE_HEADER.length);
  buffer.set(TRACE_HEADER, at);
  at = writeVarint(buffer, at + TRACE_HEADER.length, traceBytes);
  return at + buffer.write(traceparent, at);
}

/** Zigzag varint of a number that is not negative. */
function writeVarint(buffer: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value * 2;
  while (rest > 0x7f) {
    buffer[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value * 2; rest > 0x7f; rest >>>= 7) bytes++;
  return bytes;
}
