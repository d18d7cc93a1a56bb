// What waits for one partition: the records queued for it, and the one batch that is on its way with its sequence numbers.

import type { AppendRecord, OnSettled, Position } from "../log.ts";
import { BATCH_BYTES_MAX, type Chunk } from "./batches.ts";
import type { BrokerNode } from "./nodes.ts";
import type { RecordBatch } from "./record-batch.ts";

const SEQUENCE_MAX = 0x7fffffff;

/** What the brokers know a producer by. A partition of which a batch has failed never uses the same one again. */
export interface Identity {
  producerId: number;
  producerEpoch: number;
}

/** One append, until the fate of each record is known. */
export interface Call {
  /** By performance.now(). */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  settle(indexes: readonly number[], outcome: { partition: number; first: number } | Error): void;
}

export interface Part extends Chunk {
  call: Call;
}

export interface Batch extends RecordBatch {
  /** Those whose fate the caller does not know yet have a call. */
  parts: (Chunk & { call: Call | undefined })[];
  bytes: number;
  /** A broker was sent it and has not said that it did not take it. */
  mayBeStored: boolean;
  /** Of the topic that it was last sent to. */
  topicId: string | undefined;
}

export interface Lane {
  readonly topic: string;
  readonly partition: number;
  queue: Part[];
  queuedBytes: number;
  /** Sent unchanged until its fate is known: the broker knows it again by its numbers. */
  batch: Batch | undefined;
  /** The broker that has been sent the batch and has not answered. */
  sentTo: BrokerNode | undefined;
  sentAt: number;
  identity: Identity | undefined;
  sequence: number;
  /** Not to be sent before, unless another broker leads the partition than the one that was tried. */
  retryAt: number;
  triedOn: BrokerNode | undefined;
  retryMs: number;
  /** The first failure of the batch, and the latest. */
  troubledAt: number | undefined;
  trouble: unknown;
  /** Its last batch was given up: the next has one try. */
  isFailing: boolean;
  /** So many batches are to be of one append each: together these were too large. */
  singly: number;
}

export function createLane(topic: string, partition: number): Lane {
  return {
    ...{ topic, partition, queue: [], queuedBytes: 0, batch: undefined, sentTo: undefined, sentAt: 0 },
    ...{ identity: undefined, sequence: 0, triedOn: undefined, retryAt: 0, retryMs: 0 },
    ...{ troubledAt: undefined, trouble: undefined, isFailing: false, singly: 0 },
  };
}

export function enqueue(lane: Lane, part: Part): void {
  lane.queue.push(part);
  lane.queuedBytes += part.bytes;
}

/** Takes out of the queue what nobody waits for any more, and calls `late` with it. */
export function dropLate(lane: Lane, now: number, late: (part: Part) => void): void {
  const isLate = ({ call }: Part) => call.deadline <= now || call.signal?.aborted === true;
  if (!lane.queue.some(isLate)) return;
  const dropped = lane.queue.filter(isLate);
  lane.queue = lane.queue.filter((part) => !isLate(part));
  for (const part of dropped) {
    lane.queuedBytes -= part.bytes;
    late(part);
  }
}

/** Makes the next batch of what is queued, under the lane's own identity. */
export function fillBatch(lane: Lane, identity: Identity): void {
  const records: AppendRecord[] = [];
  const parts: Batch["parts"] = [];
  let bytes = 0;
  let taken = 0;
  for (const part of lane.queue) {
    if (taken > 0 && (lane.singly > 0 || bytes + part.bytes > BATCH_BYTES_MAX)) break;
    taken += 1;
    bytes += part.bytes;
    for (const record of part.records) records.push(record);
    parts.push(part);
  }
  lane.queue.splice(0, taken);
  lane.singly = Math.max(0, lane.singly - 1);
  lane.queuedBytes -= bytes;
  lane.batch = {
    ...identity,
    partition: lane.partition,
    firstSequence: lane.sequence,
    records,
    parts,
    bytes,
    mayBeStored: false,
    topicId: undefined,
  };
}

/** The numbers of another batch fit under it. */
export function hasNumbers({ sequence }: Lane): boolean {
  return sequence <= SEQUENCE_MAX - BATCH_BYTES_MAX; // A record has more than a byte.
}

/** Puts a batch that was refused for its size back, to be sent append by append; false: it is of one. */
export function takeApart(lane: Lane, { parts }: Batch): boolean {
  if (parts.length < 2) return false;
  const awaited = parts.flatMap(({ call, ...chunk }) => (call ? [{ ...chunk, call }] : []));
  lane.queue.unshift(...awaited);
  for (const { bytes } of awaited) lane.queuedBytes += bytes;
  lane.singly += awaited.length;
  lane.batch = undefined;
  return true;
}

/** Tells all callers of the batch that still wait. */
export function settleBatch({ parts }: Batch, outcome: { partition: number; first: number } | Error): void {
  let at = 0;
  for (const part of parts) {
    const own = outcome instanceof Error ? outcome : { partition: outcome.partition, first: outcome.first + at };
    part.call?.settle(part.indexes, own);
    part.call = undefined;
    at += part.indexes.length;
  }
}

/** `finished` gets the outcome of each record when the last is known. */
export function createCall(
  count: number,
  options: Pick<Call, "deadline" | "signal"> & {
    onSettled: OnSettled | undefined;
    finished(outcomes: (Position | Error)[]): void;
  },
): Call {
  const { deadline, signal, onSettled, finished } = options;
  const outcomes = new Array<Position | Error>(count);
  let left = count;
  return {
    deadline,
    signal,
    settle(indexes, outcome) {
      for (const [i, index] of indexes.entries()) {
        outcomes[index] =
          outcome instanceof Error ? outcome : { partition: outcome.partition, offset: outcome.first + i };
      }
      onSettled?.(indexes, outcomes);
      left -= indexes.length;
      if (left === 0) finished(outcomes);
    },
  };
}
