// Events that are on the log and not stored yet: the log read from where the consumer stands, bounded in records and time.
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { type LogReader, OffsetOutOfRangeError, type StoredRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord, PoisonRecordError } from "#lib/events/record.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";

export interface WaitingRecord {
  /** Undefined when the record cannot be decoded. */
  record: EventRecord | undefined;
  partition: number;
  offset: number;
  appendedMs: number;
  /** Where the consumer stands in this partition. */
  nextOffset: number;
}

export interface Backlog {
  /** By partition: where the consumer stands, and the end of the log. */
  partitions: Map<number, { next: number; start: number; end: number }>;
  found: WaitingRecord[];
  /** Records that wait and were not read. */
  unread: number;
}

export interface BacklogOptions {
  /** UUIDs in lower case. */
  ids: ReadonlySet<string>;
  positions: readonly { partition: number; offset: number }[];
  signal?: AbortSignal | undefined;
}

const RECORDS_MAX = 200_000;
const MS_MAX = 3_000;
const READ_RECORDS = 5_000;
const READ_BYTES = 4 * 1024 * 1024;
const READ_WAIT_MS = 500;
const ID_TAG = 0x0a;
const ID_BYTES = 16;

/** Rejects with LogUnavailableError. */
export async function readBacklog(log: LogReader, { ids, positions, signal }: BacklogOptions): Promise<Backlog> {
  // Before the bounds: what is committed is stored, and what comes later is beyond it.
  const committed = await log.committed(EVENTS_TOPIC, CONSUMER_GROUP);
  const bounds = await log.bounds(EVENTS_TOPIC);
  const partitions: Backlog["partitions"] = new Map();
  for (const { partition, start, end } of bounds) {
    partitions.set(partition, { next: Math.max(start, committed.get(partition)?.offset ?? start), start, end });
  }
  const found: WaitingRecord[] = [];
  for (const { partition, offset } of positions) {
    const { next, end } = partitions.get(partition) ?? { next: 0, end: 0 };
    if (offset < next || offset >= end) continue;
    const [record] = await readAt(log, partition, offset, 1);
    if (record) found.push(waitingRecord(partition, record, next));
  }
  const deadline = performance.now() + MS_MAX;
  let unread = ids.size === 0 ? 0 : [...partitions.values()].reduce((sum, { next, end }) => sum + end - next, 0);
  let left = Math.min(unread, RECORDS_MAX);
  for (const [partition, { next, end }] of ids.size === 0 ? [] : partitions) {
    for (let at = next; at < end && left > 0 && performance.now() < deadline; ) {
      signal?.throwIfAborted();
      const records = await readAt(log, partition, at, Math.min(READ_RECORDS, end - at, left));
      if (records.length === 0) break;
      for (const record of records) {
        if (ids.has(idOf(record.value))) found.push(waitingRecord(partition, record, next));
      }
      at += records.length;
      left -= records.length;
      unread -= records.length;
    }
  }
  return { partitions, found, unread: Math.max(0, unread) };
}

async function readAt(log: LogReader, partition: number, from: number, maxRecords: number): Promise<StoredRecord[]> {
  try {
    return await log.tail(EVENTS_TOPIC, partition, { from, maxRecords, maxBytes: READ_BYTES, maxWaitMs: READ_WAIT_MS });
  } catch (error) {
    // Trimmed meanwhile: only what is stored is.
    if (error instanceof OffsetOutOfRangeError) return [];
    throw error;
  }
}

/** "" for bytes that begin with none: the id is the first field of a record. */
function idOf(value: Uint8Array): string {
  const isId = value[0] === ID_TAG && value[1] === ID_BYTES && value.length >= 2 + ID_BYTES;
  return isId ? formatUuid(value.subarray(2, 2 + ID_BYTES)) : "";
}

function waitingRecord(
  partition: number,
  { offset, appendTimeMs, value }: StoredRecord,
  nextOffset: number,
): WaitingRecord {
  return { record: decoded(value), partition, offset, appendedMs: appendTimeMs, nextOffset };
}

function decoded(value: Uint8Array): EventRecord | undefined {
  try {
    return decodeRecord(value);
  } catch (error) {
    if (error instanceof PoisonRecordError) return undefined;
    throw error;
  }
}
