// How the records of one append become what is queued for their partitions. Pure: no connection is needed to test it.

import type { AppendRecord } from "../log.ts";
import { partitionOf } from "./partitioner.ts";

/** Brokers refuse a batch over message.max.bytes, 1,048,588 by default. */
export const BATCH_BYTES_MAX = 900_000;
/** Lengths, deltas and attributes around key and value, generously. */
const RECORD_OVERHEAD_BYTES = 32;

/** Records of one append for one partition, in the caller's order; more than a batch may have only if it is one record. */
export interface Chunk {
  partition: number;
  records: AppendRecord[];
  /** Index of each record in the caller's list. */
  indexes: number[];
  bytes: number;
}

/** A partition's chunks are in the order of its records. */
export function planChunks(records: readonly AppendRecord[], partitions: number): Chunk[] {
  const chunks: Chunk[] = [];
  const last = new Map<number, Chunk>();
  for (const [index, record] of records.entries()) {
    const partition = partitionOf(record.key, partitions);
    const bytes = record.key.length + record.value.length + (record.traceparent?.length ?? 0) + RECORD_OVERHEAD_BYTES;
    let chunk = last.get(partition);
    if (chunk === undefined || chunk.bytes + bytes > BATCH_BYTES_MAX) {
      chunk = { partition, records: [], indexes: [], bytes: 0 };
      chunks.push(chunk);
      last.set(partition, chunk);
    }
    chunk.bytes += bytes;
    chunk.records.push(record);
    chunk.indexes.push(index);
  }
  return chunks;
}
