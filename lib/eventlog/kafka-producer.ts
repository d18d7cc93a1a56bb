// Appending to Kafka: idempotent, acks=all, one request round at a time.
//
// The sequence numbers are kept here and not by kafkajs's producer. That one takes a failed batch's numbers back and
// gives them to the next batch; if the failed one had landed after all, the broker takes the next for its duplicate and
// acknowledges records it never stored. Here a batch keeps its numbers for all of its attempts, and a producer identity
// that has seen a batch fail is never used again.

import type { Broker, Cluster, Message } from "kafkajs";
import {
  createKafkaClient,
  type KafkaClient,
  type KafkaConnection,
  openCluster,
  protocolErrorOf,
  unavailable,
  withTimeout,
} from "./kafka-client.ts";
import { type Compression, compressionType } from "./kafka-codecs.ts";
import { type AppendRecord, type Position, RecordTooLargeError } from "./log.ts";
import { partitionOf } from "./partitioner.ts";

/** Brokers refuse a batch over message.max.bytes, 1,048,588 by default; larger groups go in several rounds. */
const BATCH_BYTES_MAX = 900_000;
/** Bytes of one round over all partitions: bounds what is encoded at once. */
const ROUND_BYTES_MAX = 16 * 1024 * 1024;
/** Lengths, deltas and attributes around key and value, generously. */
const RECORD_OVERHEAD_BYTES = 32;
const SEQUENCE_MAX = 0x7fffffff;
/** A topic that was just created is unknown to some brokers for a moment. */
const UNKNOWN_TOPIC_PATIENCE_MS = 2_000;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1_000;
const TOO_LARGE = new Set(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"]);

export interface KafkaProducer {
  /** As EventLog.append, bounded by `appendTimeoutMs` from the call on, its wait for earlier appends included. */
  append(topic: string, records: readonly AppendRecord[], signal?: AbortSignal): Promise<Position[]>;
  close(): void;
}

interface Connected {
  client: KafkaClient;
  cluster: Cluster;
}

/** What the broker knows this producer by. It outlives connections, and ends with the first append that fails. */
interface Identity {
  producerId: number;
  producerEpoch: number;
  /** Next sequence number by `topic/partition`. */
  sequences: Map<string, number>;
}

interface Batch {
  partition: number;
  firstSequence: number;
  messages: Message[];
  /** Index of each message in the caller's list. */
  indexes: number[];
}

export function createKafkaProducer(
  connection: KafkaConnection,
  options: { appendTimeoutMs: number; compression: Compression },
): KafkaProducer {
  const { appendTimeoutMs } = options;
  const requestTimeoutMs = Math.min(5_000, Math.max(500, Math.floor(appendTimeoutMs / 3)));
  let connected: Connected | undefined;
  let identity: Identity | undefined;
  let turn: Promise<unknown> = Promise.resolve();
  let closed = false;

  function disconnect(): void {
    connected?.client.kill();
    connected = undefined;
  }

  /** Tries until it succeeds, fails for good, or the deadline has passed. */
  async function attempt<T>(deadline: number, work: (cluster: Cluster) => Promise<T>): Promise<T> {
    const late = () => new Error("no answer in time");
    const startedAt = performance.now();
    for (let retryMs = RETRY_MS_MIN; ; retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)) {
      let failure: unknown;
      connected ??= openConnected(connection, requestTimeoutMs);
      try {
        // Every try has its own bound and, unless a broker answered, the next one new connections: kafkajs's own way
        // back from a broker's death can hang.
        const boundMs = Math.min(requestTimeoutMs + 1_000, deadline - performance.now());
        return await withTimeout(work(connected.cluster), boundMs, late);
      } catch (error) {
        failure = error;
      }
      const refusal = protocolErrorOf(failure);
      if (refusal === undefined) disconnect();
      const spentMs = performance.now() - startedAt;
      const patienceMs =
        refusal === "UNKNOWN_TOPIC_OR_PARTITION" ? UNKNOWN_TOPIC_PATIENCE_MS : Number.POSITIVE_INFINITY;
      if (closed || !isTransient(failure) || spentMs > patienceMs) throw failure;
      if (performance.now() + retryMs >= deadline) throw failure;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  async function appendNow(topic: string, records: readonly AppendRecord[], deadline: number): Promise<Position[]> {
    try {
      identity ??= await attempt(deadline, initIdentity);
      const current = identity;
      const partitions = await attempt(deadline, (cluster) => partitionCount(cluster, topic));
      const positions = new Array<Position>(records.length);
      for (const round of plan(current, topic, records, partitions)) {
        await sendRound(current, topic, round, positions, deadline);
        for (const { partition, firstSequence, messages } of round) {
          current.sequences.set(`${topic}/${partition}`, firstSequence + messages.length);
        }
      }
      return positions;
    } catch (error) {
      identity = undefined;
      disconnect(); // What is still under way must not land after the caller's next try if that can be helped.
      if (TOO_LARGE.has(protocolErrorOf(error) ?? "")) {
        const largest = records.reduce((most, record) => Math.max(most, record.key.length + record.value.length), 0);
        const what = `the brokers refuse a record for ${topic} by its size; the largest of these has ${largest} bytes`;
        throw new RecordTooLargeError(`${what} (topic setting max.message.bytes)`, { cause: error });
      }
      throw unavailable(connection, `take ${records.length} records for ${topic} within ${appendTimeoutMs} ms`, error);
    }
  }

  /** Sends one batch a partition, side by side to their leaders; a retry repeats what is not acknowledged, unchanged. */
  async function sendRound(
    current: Identity,
    topic: string,
    round: Batch[],
    positions: Position[],
    deadline: number,
  ): Promise<void> {
    const open = new Map(round.map((batch) => [batch.partition, batch]));
    let first = true;
    await attempt(deadline, async (cluster) => {
      await cluster.connect(); // Returns at once when connected.
      await cluster.addTargetTopic(topic);
      if (first) await cluster.refreshMetadataIfNecessary();
      else await cluster.refreshMetadata();
      first = false;
      const leaders = Object.entries(cluster.findLeaderForPartitions(topic, [...open.keys()]));
      const sent = leaders.map(async ([nodeId, partitions]) => {
        const broker = await cluster.findBroker({ nodeId });
        const batches = partitions.flatMap((partition) => open.get(partition) ?? []);
        const response = await broker.produce({
          acks: -1,
          timeout: requestTimeoutMs,
          producerId: current.producerId,
          producerEpoch: current.producerEpoch,
          compression: compressionType(options.compression),
          topicData: [{ topic, partitions: batches }],
        });
        for (const { partition, baseOffset } of response.topics[0].partitions) {
          if (Number(baseOffset) < 0) throw new Error(`no offset was given for ${topic}[${partition}]`);
          const batch = open.get(partition);
          open.delete(partition);
          batch?.indexes.forEach((index, i) => {
            positions[index] = { partition, offset: Number(baseOffset) + i };
          });
        }
      });
      const failed = (await Promise.allSettled(sent)).find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
      if (open.size > 0) throw new Error(`no leader is known for ${topic}[${[...open.keys()].join(", ")}]`);
    });
  }

  return {
    async append(topic, records, signal) {
      signal?.throwIfAborted();
      if (records.length === 0) return [];
      const deadline = performance.now() + appendTimeoutMs;
      const late = () => unavailable(connection, `take records for ${topic} within ${appendTimeoutMs} ms`, undefined);
      const work = turn.then(() => {
        if (closed || signal?.aborted || performance.now() >= deadline) throw late(); // Never sent.
        return appendNow(topic, records, deadline);
      });
      turn = work.catch(() => undefined); // The next append does not care how this one ended.
      return withAbort(withTimeout(work, appendTimeoutMs, late), signal);
    },
    close() {
      closed = true;
      disconnect();
    },
  };
}

function openConnected(connection: KafkaConnection, requestTimeoutMs: number): Connected {
  const client = createKafkaClient(connection, requestTimeoutMs);
  return { client, cluster: openCluster(client) };
}

async function initIdentity(cluster: Cluster): Promise<Identity> {
  await cluster.connect();
  await cluster.refreshMetadata();
  // Any broker hands out producer ids; kafkajs's types leave the request out.
  const broker = (await cluster.findControllerBroker()) as Broker & {
    initProducerId(request: { transactionTimeout: number }): Promise<{ producerId: number; producerEpoch: number }>;
  };
  const { producerId, producerEpoch } = await broker.initProducerId({ transactionTimeout: 60_000 });
  return { producerId, producerEpoch, sequences: new Map() };
}

/** Partition count of a topic by metadata at most 30 seconds old. */
async function partitionCount(cluster: Cluster, topic: string): Promise<number> {
  await cluster.connect();
  await cluster.addTargetTopic(topic);
  await cluster.refreshMetadataIfNecessary();
  const count = cluster.findTopicPartitionMetadata(topic).length;
  if (count > 0) return count;
  await cluster.refreshMetadata();
  throw new Error(`no partitions are known for ${topic}`);
}

/** Splits records into rounds of at most one batch a partition, which is what one produce request can carry. */
function plan(identity: Identity, topic: string, records: readonly AppendRecord[], partitions: number): Batch[][] {
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
      batch = { partition, firstSequence: 0, messages: [], indexes: [], bytes: 0 };
      round.batches.set(partition, batch);
    }
    round.bytes += bytes;
    batch.bytes += bytes;
    batch.messages.push(toMessage(record));
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
    const following = sequence + batch.messages.length;
    // The next append begins at zero under a new identity.
    if (following > SEQUENCE_MAX) throw new Error("the producer identity has used up its sequence numbers");
    batch.firstSequence = sequence;
    next.set(batch.partition, following);
  }
}

function toMessage({ key, value, traceparent }: AppendRecord): Message {
  const message = { key: viewOf(key), value: viewOf(value) };
  return traceparent === undefined || traceparent === "" ? message : { ...message, headers: { traceparent } };
}

/** The same memory as a Buffer, which is what kafkajs encodes without a copy. */
function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether the same request may succeed later. Everything without a name of the protocol is about connections. */
function isTransient(error: unknown): boolean {
  const name = protocolErrorOf(error);
  if (error instanceof Error && error.name === "KafkaJSSASLAuthenticationError") return false;
  if (name === undefined || name === "UNKNOWN_TOPIC_OR_PARTITION") return true;
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ("type" in at && at.type === name) return "retriable" in at && at.retriable === true;
  }
  return false;
}

async function withAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
