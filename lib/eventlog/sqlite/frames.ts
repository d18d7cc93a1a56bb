// Records on their way between the threads: many in one transferable buffer, because a message costs about as much as
// handling ten records and structured clone would copy every key and value one by one.
// Per record: float64 append time, uint32 key, value and traceparent lengths (little-endian), then those bytes.

import type { StoredRecord } from "../log.ts";

const HEADER_BYTES = 20;

export interface FramedRecord {
  /** Zero on the way in: the log's thread sets the time. */
  appendTimeMs?: number;
  key: Uint8Array;
  value: Uint8Array;
  traceparent?: string | undefined;
}

/** The result owns its whole ArrayBuffer, so it can be transferred. */
export function packRecords(records: readonly FramedRecord[]): Uint8Array<ArrayBuffer> {
  let size = 0;
  for (const { key, value, traceparent } of records) {
    size += HEADER_BYTES + key.byteLength + value.byteLength + (traceparent ? Buffer.byteLength(traceparent) : 0);
  }
  // allocUnsafeSlow: not zeroed first, and not a slice of Node's shared pool, which must never be transferred.
  const frame = Buffer.allocUnsafeSlow(size);
  const view = new DataView(frame.buffer);
  let at = 0;
  for (const { appendTimeMs, key, value, traceparent } of records) {
    const body = at + HEADER_BYTES;
    frame.set(key, body);
    frame.set(value, body + key.byteLength);
    const end = body + key.byteLength + value.byteLength;
    const traceBytes = traceparent ? frame.write(traceparent, end) : 0;
    view.setFloat64(at, appendTimeMs ?? 0, true);
    view.setUint32(at + 8, key.byteLength, true);
    view.setUint32(at + 12, value.byteLength, true);
    view.setUint32(at + 16, traceBytes, true);
    at = end + traceBytes;
  }
  return frame;
}

/** Offsets count up from `firstOffset`. Keys and values are views of the frame: it lives as long as any of them. */
export function unpackRecords(frame: Uint8Array<ArrayBuffer>, firstOffset: number): StoredRecord[] {
  const { buffer, byteOffset, byteLength } = frame;
  const view = new DataView(buffer, byteOffset, byteLength);
  const records: StoredRecord[] = [];
  for (let at = 0; at < byteLength; ) {
    const keyBytes = view.getUint32(at + 8, true);
    const valueBytes = view.getUint32(at + 12, true);
    const traceBytes = view.getUint32(at + 16, true);
    const body = byteOffset + at + HEADER_BYTES;
    const record: StoredRecord = {
      offset: firstOffset + records.length,
      appendTimeMs: view.getFloat64(at, true),
      key: new Uint8Array(buffer, body, keyBytes),
      value: new Uint8Array(buffer, body + keyBytes, valueBytes),
    };
    if (traceBytes > 0) {
      record.traceparent = Buffer.from(buffer, body + keyBytes + valueBytes, traceBytes).toString("utf8");
    }
    records.push(record);
    at += HEADER_BYTES + keyBytes + valueBytes + traceBytes;
  }
  return records;
}
