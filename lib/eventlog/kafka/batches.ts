// How records become the batches of produce requests. Pure: no connection is needed to test it.

import type { AppendRecord } from "../log.ts";
import { partitionOf } from "./partitioner.ts";
import type { RecordBatch } from "./record-batch.ts";

/** Brokers refuse a batch over message.max.bytes, 1,048,588 by default; larger groups go in several rounds. */
const BATCH_BYTES_MAX = 900_000;
/** Bytes of one round over all partitions: bounds what is encoded at once. */
const ROUND_BYTES_MAX = 16 * 1024 * 1024;
/** Lengths, deltas and attributes around key and value, generously. */
const RECORD_OVERHEAD_BYTES = 32;
const SEQUENCE_MAX = 0x7fffffff;
/** What the broker knows this producer by. It outlives connections, and ends with the first append that fails. */
export interface Identity {
  producerId: number;
  producerEpoch: number;
  /** Next sequence number by `topic/partition`. */
  sequences: Map<string, number>;
}

export interface Batch extends RecordBatch {
  records: AppendRecord[];
  /** Index of each record in the caller's list. */
  indexes: number[];
}

/**
 * Splits records into rounds of at most one batch a partition, which is what one produce request can carry, and numbers
 * them. A partition's records keep their order over the rounds. Changes nothing in `identity`: the sender moves its
 * sequences on when a round is acknowledged.
 */
export function planRounds(
  identity: Identity,
  topic: string,
  records: readonly AppendRecord[],
  partitions: number,
): Batch[][] {
  const rounds: { bytes: number; batches: Map<number, Batch & { bytes: number }> }[] = [];
  const roundOf = new Map<number, number>();
  for (const [index, record] of records.entries()) {
    const partition = partitionOf(record.key, partitions);
    const bytes = record.key.length + record.value.length + (record.traceparent?.length ?? 0) + RECORD_OVERHEAD_BYTES;
    let at = roundOf.get(partition) ?? 0;
    let round = rounds[at];
    while (round !== undefined) {
      const batchBytes = round.batches.get(partition)?.bytes ?? 0;
      if ((batchBytes === 0 || batchBytes + bytes <= BATCH_BYTES_MAX) && round.bytes + bytes <= ROUND_BYTES_MAX) break;
      at += 1;
      round = rounds[at];
    }
    if (round === undefined) {
      round = { bytes: 0, batches: new Map() };
      rounds.push(round);
    }
    roundOf.set(partition, at); // Never an earlier round again: a partition's order is the caller's.
    let batch = round.batches.get(partition);
    if (batch === undefined) {
      batch = { partition, firstSequence: 0, records: [], indexes: [], bytes: 0 };
      round.batches.set(partition, batch);
    }
    round.bytes += bytes;
    batch.bytes += bytes;
    batch.records.push(record);
    batch.indexes.push(index);
  }
  numberBatches(
    identity,
    topic,
    rounds.flatMap((round) => [...round.batches.values()]),
  );
  return rounds.map((round) => [...round.batches.values()]);
}

/** Gives each batch, in the order of sending, the sequence numbers after those of its partition's batch before. */
function numberBatches(identity: Identity, topic: string, batches: Batch[]): void {
  const next = new Map<number, number>();
  for (const batch of batches) {
    const sequence = next.get(batch.partition) ?? identity.sequences.get(`${topic}/${batch.partition}`) ?? 0;
    const following = sequence + batch.records.length;
    // The next append begins at zero under a new identity.
    if (following > SEQUENCE_MAX) throw new Error("the producer identity has used up its sequence numbers");
    batch.firstSequence = sequence;
    next.set(batch.partition, following);
  }
}
