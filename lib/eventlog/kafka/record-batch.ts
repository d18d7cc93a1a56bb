// Record batches (magic 2) and the produce request around them, written in one pass into one buffer. kafkajs assembles
// each record from encoders of its own, which cost more than all the rest of the gateway; kafka-record-batch.test.ts
// holds these bytes to kafkajs's, field for field.
// Format: Kafka protocol guide, "Record Batch" and "Produce API", versions 3 to 8, and 13 of a topic that is named by its id.

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
  /** The records go to this topic and to none that has taken its place. */
  topicId?: string | undefined;
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
/** Behind base offset and length: what the length counts. */
const LENGTH_END = 12;
const CRC_AT = 17;
/** The first that the checksum covers. */
const ATTRIBUTES_AT = 21;
/** Five varints of at most five bytes, attributes, timestamp delta. */
const RECORD_FRAME_BYTES = 32;
const TOPIC_ID_BYTES = 16;
/** Of a varint whose bytes are all written, whatever its number. */
const LONG_VARINT_BYTES = 5;
const TRACE_HEADER = Buffer.from("traceparent");

/** Room for the request's head in front of its body: kafkajs writes it there, with a client id of its own choice. */
export const HEAD_ROOM_BYTES = 512;

/** Body of the request: what follows client id in a produce request. HEAD_ROOM_BYTES before it are free to be written. */
export async function encodeProduceBody(request: ProduceRequest): Promise<Buffer> {
  const { topic, topicId, batches, compression } = request;
  const topicBytes = Buffer.byteLength(topic);
  let bound = HEAD_ROOM_BYTES + 18 + TOPIC_ID_BYTES + topicBytes;
  for (const batch of batches) bound += 5 + LONG_VARINT_BYTES + boundOf(batch);
  // Not zeroed, and not from Node's pool: all of it is this request's.
  const buffer = Buffer.allocUnsafeSlow(bound);
  // No tagged fields in the head, no transaction.
  let at = topicId ? buffer.writeInt16BE(0, HEAD_ROOM_BYTES) : buffer.writeInt16BE(-1, HEAD_ROOM_BYTES);
  at = buffer.writeInt16BE(ACKS_ALL, at);
  at = buffer.writeInt32BE(request.timeoutMs, at);
  if (topicId) {
    at = buffer.writeUInt8(2, at); // one topic
    at += buffer.write(topicId, at, "base64url");
    at = writeLongVarint(buffer, at, batches.length + 1);
  } else {
    at = buffer.writeInt32BE(1, at); // topics
    at = buffer.writeInt16BE(topicBytes, at);
    at += buffer.write(topic, at);
    at = buffer.writeInt32BE(batches.length, at);
  }
  for (const batch of batches) {
    const lengthAt = buffer.writeInt32BE(batch.partition, at);
    const start = lengthAt + (topicId ? LONG_VARINT_BYTES : 4);
    let end = writeBatch(buffer, start, batch, request.timestampMs);
    if (compression) end = await compressBatch(buffer, start, end, compression);
    sealBatch(buffer, start, end);
    if (topicId) writeLongVarint(buffer, lengthAt, end - start + 1);
    else buffer.writeInt32BE(end - start, lengthAt);
    at = topicId ? buffer.writeUInt8(0, end) : end; // no tagged fields
  }
  if (topicId) at = buffer.writeUInt16BE(0, at); // of the topic and of all neither
  return buffer.subarray(HEAD_ROOM_BYTES, at);
}

function boundOf({ records }: RecordBatch): number {
  let bound = BATCH_HEAD_BYTES;
  for (const { key, value, traceparent } of records) {
    bound += key.length + value.length + RECORD_FRAME_BYTES;
    if (traceparent) bound += TRACE_HEADER.length + Buffer.byteLength(traceparent) + 10;
  }
  return bound;
}

/** All but length and checksum; returns the place behind it. */
function writeBatch(buffer: Buffer, start: number, batch: RecordBatch, timestampMs: number): number {
  const { records } = batch;
  let at = start + BATCH_HEAD_BYTES;
  for (let i = 0; i < records.length; i++) at = writeRecord(buffer, at, records[i] as AppendRecord, i);
  buffer.writeBigInt64BE(0n, start); // base offset: the broker's to give
  buffer.writeInt32BE(0, start + 12); // leader epoch: unknown to producers
  buffer.writeInt8(MAGIC, start + 16);
  buffer.writeInt16BE(0, start + ATTRIBUTES_AT); // not compressed, create time, no transaction
  buffer.writeInt32BE(records.length - 1, start + 23);
  buffer.writeBigInt64BE(BigInt(timestampMs), start + 27);
  buffer.writeBigInt64BE(BigInt(timestampMs), start + 35);
  buffer.writeBigInt64BE(BigInt(batch.producerId), start + 43);
  buffer.writeInt16BE(batch.producerEpoch, start + 51);
  buffer.writeInt32BE(batch.firstSequence, start + 53);
  buffer.writeInt32BE(records.length, start + 57);
  return at;
}

/** Puts the compressed records in their place, unless that makes them longer. */
async function compressBatch(
  buffer: Buffer,
  start: number,
  end: number,
  { type, compress }: NonNullable<ProduceRequest["compression"]>,
): Promise<number> {
  const from = start + BATCH_HEAD_BYTES;
  const records = await compress(buffer.subarray(from, end));
  if (records.length >= end - from) return end;
  buffer.writeInt16BE(type, start + ATTRIBUTES_AT);
  buffer.set(records, from);
  return from + records.length;
}

function sealBatch(buffer: Buffer, start: number, end: number): void {
  buffer.writeInt32BE(end - start - LENGTH_END, start + 8);
  buffer.writeUInt32BE(crc32c(buffer, start + ATTRIBUTES_AT, end), start + CRC_AT);
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

/** Not zigzag, and as long as the largest, so that it can be written when what it counts is there. */
function writeLongVarint(buffer: Buffer, start: number, value: number): number {
  let rest = value;
  for (let i = 0; i < LONG_VARINT_BYTES - 1; i++) {
    buffer[start + i] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[start + LONG_VARINT_BYTES - 1] = rest;
  return start + LONG_VARINT_BYTES;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value * 2; rest > 0x7f; rest >>>= 7) bytes++;
  return bytes;
}
