// Record batches (magic 2) of a fetch as records, in one pass. kafkajs makes ten objects of each record, and computes
// offsets and times as 64-bit numbers of its own, which was a third of all that the consumer did;
// record-batch-reader.test.ts holds this to what kafkajs reads.
// Format: Kafka protocol guide, "Record Batch".

import type { StoredRecord } from "../log.ts";

/** Of a batch: base offset and length. */
const FRAME_BYTES = 12;
/** From the base offset to the record count, both included. */
const HEAD_BYTES = 61;
const ATTRIBUTES_AT = 21;
const FIRST_TIMESTAMP_AT = 27;
const MAX_TIMESTAMP_AT = 35;
const PRODUCER_ID_AT = 43;
const COUNT_AT = 57;
const LOG_APPEND_TIME = 0x8;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const TRACE_HEADER = "traceparent";
const NOTHING = Buffer.alloc(0);

export interface FetchedRecord extends StoredRecord {
  /** Of records in a transaction, and of Kafka's own between them. */
  transaction?: { producerId: string; isControl: boolean };
}

/** Undefined for attributes that say the records are not compressed. */
export type Decompressor = (attributes: number) => ((records: Buffer) => Promise<Buffer>) | undefined;

/** What is whole: a broker cuts an answer where it is large enough. */
export async function readRecordBatches(bytes: Buffer, decompressorOf: Decompressor): Promise<FetchedRecord[]> {
  const records: FetchedRecord[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length; ) {
    const length = bytes.readInt32BE(at + 8);
    if (length < HEAD_BYTES - FRAME_BYTES) throw new Error(`a record batch has a length of ${length} bytes`);
    const end = at + FRAME_BYTES + length;
    if (end > bytes.length) break;
    const batch = bytes.subarray(at, end);
    const decompress = decompressorOf(batch.readInt16BE(ATTRIBUTES_AT));
    const body = batch.subarray(HEAD_BYTES);
    readRecords(batch, decompress ? await decompress(body) : body, records);
    at = end;
  }
  return records;
}

function readRecords(batch: Buffer, body: Buffer, records: FetchedRecord[]): void {
  const baseOffset = Number(batch.readBigInt64BE(0));
  const attributes = batch.readInt16BE(ATTRIBUTES_AT);
  const isAppendTime = (attributes & LOG_APPEND_TIME) !== 0;
  const baseTimeMs = Number(batch.readBigInt64BE(isAppendTime ? MAX_TIMESTAMP_AT : FIRST_TIMESTAMP_AT));
  const transaction =
    (attributes & (TRANSACTIONAL | CONTROL)) === 0
      ? undefined
      : { producerId: String(batch.readBigInt64BE(PRODUCER_ID_AT)), isControl: (attributes & CONTROL) !== 0 };
  const cursor = new Cursor(body);
  for (let left = batch.readInt32BE(COUNT_AT); left > 0; left--) {
    const end = cursor.varint() + cursor.at;
    cursor.at++; // attributes
    const timeDelta = cursor.varint();
    const offset = baseOffset + cursor.varint();
    const key = cursor.bytesOf(cursor.varint());
    const value = cursor.bytesOf(cursor.varint());
    const record: FetchedRecord = {
      offset,
      appendTimeMs: isAppendTime ? baseTimeMs : baseTimeMs + timeDelta,
      key,
      value,
    };
    if (transaction) record.transaction = transaction;
    const headers = cursor.varint();
    // Each takes a byte at least: a number that is damaged is not counted down.
    if (headers > 0 && headers <= Math.min(end, body.length) - cursor.at) readTrace(cursor, headers, record);
    if (cursor.at !== end || end > body.length) throw new Error(`the record at offset ${offset} is malformed`);
    records.push(record);
  }
}

function readTrace(cursor: Cursor, headers: number, record: FetchedRecord): void {
  for (let left = headers; left > 0; left--) {
    const name = cursor.bytesOf(cursor.varint());
    const value = cursor.bytesOf(cursor.varint());
    if (name.length === TRACE_HEADER.length && name.toString("latin1") === TRACE_HEADER) {
      record.traceparent = value.toString("utf8");
    }
  }
}

class Cursor {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Zigzag varint, exact up to 2^53. */
  varint(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.at++] as number;
    let value = byte & 0x7f;
    for (let scale = 128; byte >= 0x80; scale *= 128) {
      byte = bytes[this.at++] as number;
      value += (byte & 0x7f) * scale;
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** A view; of a length below 0, which means that there are none, empty. */
  bytesOf(length: number): Buffer {
    if (length <= 0) return NOTHING;
    const from = this.at;
    this.at += length;
    return this.#bytes.subarray(from, this.at);
  }
}
