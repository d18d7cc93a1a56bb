// What was fetched of one partition and not yet read: a bounded run of consecutive records and the one reader that may
// wait for more. fetcher.ts fills it.

import { OffsetOutOfRangeError, type StoredRecord } from "../log.ts";
import type { FetchedRecord } from "./record-batch-reader.ts";

/** Fetched ahead of the reader while less than this waits for it: a partition holds this and one fetch at most. */
const PREFETCH_BELOW_BYTES = 1024 * 1024;
/** A reader that asked this recently will ask again, so its partition stays in the fetches. */
const READER_ACTIVE_MS = 1_000;
const NOTHING = Buffer.alloc(0);

export interface Inbox {
  readonly topic: string;
  readonly partition: number;
  /** Offset of the next record to fetch; everything before it was handed out or is in `records`. */
  next: number;
  records: StoredRecord[];
  bytes: number;
  /** End of the partition as of the last fetch. */
  end: number;
  lastReadAt: number;
  /** Since when fetches bring nothing although the partition has records. */
  emptySince: number | undefined;
  /** Whether a fetch has said what is at `next`, be it nothing. */
  answered: boolean;
  /** The broker to fetch from instead of the leader, as the leader said. */
  replica: { nodeId: string; untilMs: number } | undefined;
  waiter: { resolve(): void; reject(error: Error): void; overdue: boolean } | undefined;
}

export interface FetchedPartition {
  partition: number;
  highWatermark: string;
  /** Where what may be read ends: below it no transaction is open. "-1" of brokers that do not say. */
  lastStableOffset?: string;
  abortedTransactions?: { producerId: string; firstOffset: string }[] | null;
  /** The broker to ask from now on; -1 or left out: this one. */
  preferredReadReplica?: number;
  messages: FetchedRecord[];
}

export function createInbox(topic: string, partition: number): Inbox {
  return {
    topic,
    partition,
    next: -1,
    records: [],
    bytes: 0,
    end: 0,
    lastReadAt: Number.NEGATIVE_INFINITY,
    emptySince: undefined,
    answered: false,
    replica: undefined,
    waiter: undefined,
  };
}

/** Whether the next fetch should ask for this partition: for a waiting reader, or ahead of one. */
export function wantsRecords(inbox: Inbox): boolean {
  if (inbox.waiter !== undefined) return true;
  if (inbox.next < 0 || inbox.bytes >= PREFETCH_BELOW_BYTES) return false;
  return inbox.next < inbox.end || performance.now() - inbox.lastReadAt < READER_ACTIVE_MS;
}

/** Adds what was fetched to the inbox and says how many bytes that was. */
export function deliver(inbox: Inbox, fetched: FetchedPartition): number {
  const { highWatermark, lastStableOffset = "-1" } = fetched;
  inbox.end = Number(Number(lastStableOffset) < 0 ? highWatermark : lastStableOffset);
  inbox.answered = true;
  let bytes = 0;
  const abortedBy = watchTransactions(fetched);
  for (const message of fetched.messages) {
    const { offset } = message;
    const aborted = abortedBy(message);
    if (offset < inbox.next) continue; // A batch is sent whole, also when its middle was asked for.
    if (offset > inbox.next) {
      if (inbox.records.length > 0) break; // Hand out what is consecutive; the next fetch begins at the gap.
      const why = `the record after it is ${offset}; compacted topics cannot be consumed`;
      inbox.waiter?.reject(outOfRangeError(inbox, inbox.next, why, true));
      stopFetchingAhead(inbox);
      break;
    }
    const record: StoredRecord =
      aborted === undefined
        ? message
        : { offset, appendTimeMs: message.appendTimeMs, key: NOTHING, value: NOTHING, aborted };
    inbox.records.push(record);
    inbox.next = offset + 1;
    bytes += record.key.length + record.value.length;
  }
  inbox.bytes += bytes;
  if (inbox.records.length > 0 || inbox.waiter?.overdue) inbox.waiter?.resolve();
  return bytes;
}

/** Until the next read, which will then be told what is wrong. */
export function stopFetchingAhead(inbox: Inbox): void {
  inbox.end = 0;
  inbox.lastReadAt = Number.NEGATIVE_INFINITY;
}

/** An abort marker: version 0, type 0. */
const ABORTS = Buffer.from([0, 0, 0, 0]);

/**
 * Of each message in turn, also of those before the offset that was asked for: why it is nobody's to read. Of transactions
 * the broker tells which are aborted and where they begin; where they end is on the log.
 */
function watchTransactions({ abortedTransactions }: FetchedPartition) {
  const coming = (abortedTransactions ?? []).toSorted((a, b) => Number(a.firstOffset) - Number(b.firstOffset));
  const aborting = new Set<string>();
  return ({ offset, key, transaction }: FetchedRecord): string | undefined => {
    while (coming[0] && Number(coming[0].firstOffset) <= offset) aborting.add(coming.shift()?.producerId ?? "");
    if (!transaction) return undefined;
    const { producerId, isControl } = transaction;
    if (isControl) {
      if (ABORTS.equals(key)) aborting.delete(producerId);
      return "a control record of Kafka";
    }
    return aborting.has(producerId) ? "of a transaction that was aborted" : undefined;
  };
}

/** Makes `from` the first record of the inbox, keeping what is already there when the reader merely moves forward. */
export function position(inbox: Inbox, from: number): void {
  const first = inbox.next - inbox.records.length;
  if (from >= first && from <= inbox.next) {
    for (const record of inbox.records.splice(0, from - first)) inbox.bytes -= record.key.length + record.value.length;
    return;
  }
  inbox.records = [];
  inbox.bytes = 0;
  inbox.end = 0;
  inbox.answered = false;
  inbox.next = from;
}

/** Removes from the front what a read may have; one record is given even if it alone exceeds `maxBytes`. */
export function take(inbox: Inbox, maxRecords: number, maxBytes: number): StoredRecord[] {
  let count = 0;
  let bytes = 0;
  for (const record of inbox.records) {
    const size = record.key.length + record.value.length;
    if (count >= maxRecords || (count > 0 && bytes + size > maxBytes)) break;
    count += 1;
    bytes += size;
  }
  inbox.bytes -= bytes;
  if (count < inbox.records.length) return inbox.records.splice(0, count);
  const all = inbox.records;
  inbox.records = [];
  return all;
}

/**
 * Waits until the inbox has records, at most `maxWaitMs` or until the first fetch from here has an answer, if that takes
 * longer: "nothing yet" must not be said of an offset that is not on the log. Rejects when fetching or `signal` says so.
 */
export async function arrival(inbox: Inbox, maxWaitMs: number, kick: () => void, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const waiter = { resolve, reject, overdue: false };
  inbox.waiter = waiter;
  const timer = setTimeout(() => {
    waiter.overdue = true;
    if (inbox.answered) resolve();
  }, maxWaitMs);
  const abort = () => reject(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    kick();
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    inbox.waiter = undefined;
  }
}

export function outOfRangeError(inbox: Inbox, offset: number, why: string, isHole = false): OffsetOutOfRangeError {
  const where = `${inbox.topic}[${inbox.partition}]`;
  return new OffsetOutOfRangeError(`offset ${offset} of ${where} is not on the log: ${why}`, { isHole });
}
