// Appending to Kafka: idempotent, acks=all, one request round at a time.
//
// The sequence numbers are kept here and not by kafkajs's producer. That one takes a failed batch's numbers back and
// gives them to the next batch; if the failed one had landed after all, the broker takes the next for its duplicate and
// acknowledges records it never stored. Here a batch keeps its numbers for all of its attempts, and a producer identity
// that has seen a batch fail is never used again.

import type { Broker, Cluster } from "kafkajs";
import { type Batch, type Identity, planRounds } from "./kafka-batches.ts";
import {
  createKafkaClient,
  type KafkaClient,
  type KafkaConnection,
  openCluster,
  protocolErrorOf,
  unavailable,
  withTimeout,
} from "./kafka-client.ts";
import { type Compression, compressorOf } from "./kafka-codecs.ts";
import { produce } from "./kafka-patches.ts";
import { type AppendRecord, type Position, RecordTooLargeError } from "./log.ts";

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

/** Connects at the first append. */
export function createKafkaProducer(
  connection: KafkaConnection,
  options: { appendTimeoutMs: number; compression: Compression },
): KafkaProducer {
  return new SequencedProducer(connection, options);
}

class SequencedProducer implements KafkaProducer {
  readonly #connection: KafkaConnection;
  readonly #appendTimeoutMs: number;
  readonly #requestTimeoutMs: number;
  readonly #compression: Compression;
  #connected: Connected | undefined;
  #identity: Identity | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(connection: KafkaConnection, options: { appendTimeoutMs: number; compression: Compression }) {
    this.#connection = connection;
    this.#appendTimeoutMs = options.appendTimeoutMs;
    this.#requestTimeoutMs = Math.min(5_000, Math.max(500, Math.floor(options.appendTimeoutMs / 3)));
    this.#compression = options.compression;
  }

  async append(topic: string, records: readonly AppendRecord[], signal?: AbortSignal): Promise<Position[]> {
    signal?.throwIfAborted();
    if (records.length === 0) return [];
    const deadline = performance.now() + this.#appendTimeoutMs;
    const what = `take ${records.length} records for ${topic} within ${this.#appendTimeoutMs} ms`;
    const late = () => unavailable(this.#connection, what, undefined);
    const work = this.#turn.then(() => {
      if (this.#closed || signal?.aborted || performance.now() >= deadline) throw late(); // Never sent.
      return this.#appendNow(topic, records, deadline);
    });
    this.#turn = work.catch(() => undefined); // The next append does not care how this one ended.
    return withAbort(withTimeout(work, this.#appendTimeoutMs, late), signal);
  }

  close(): void {
    this.#closed = true;
    this.#disconnect();
  }

  #disconnect(): void {
    this.#connected?.client.kill();
    this.#connected = undefined;
  }

  /** Tries until it succeeds, fails for good, or the deadline has passed. */
  async #attempt<T>(deadline: number, work: (cluster: Cluster) => Promise<T>): Promise<T> {
    const late = () => new Error("no answer in time");
    const startedAt = performance.now();
    for (let retryMs = RETRY_MS_MIN; ; retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)) {
      let failure: unknown;
      this.#connected ??= openConnected(this.#connection, this.#requestTimeoutMs);
      try {
        // Every try has its own bound and, unless a broker answered, the next one new connections: kafkajs's own way
        // back from a broker's death can hang.
        const boundMs = Math.min(this.#requestTimeoutMs + 1_000, deadline - performance.now());
        return await withTimeout(work(this.#connected.cluster), boundMs, late);
      } catch (error) {
        failure = error;
      }
      const refusal = protocolErrorOf(failure);
      if (refusal === undefined) this.#disconnect();
      const spentMs = performance.now() - startedAt;
      const patienceMs =
        refusal === "UNKNOWN_TOPIC_OR_PARTITION" ? UNKNOWN_TOPIC_PATIENCE_MS : Number.POSITIVE_INFINITY;
      if (this.#closed || !isTransient(failure) || spentMs > patienceMs) throw failure;
      if (performance.now() + retryMs >= deadline) throw failure;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  async #appendNow(topic: string, records: readonly AppendRecord[], deadline: number): Promise<Position[]> {
    try {
      this.#identity ??= await this.#attempt(deadline, initIdentity);
      const current = this.#identity;
      const partitions = await this.#attempt(deadline, (cluster) => partitionCount(cluster, topic));
      const positions = new Array<Position>(records.length);
      for (const round of planRounds(current, topic, records, partitions)) {
        await this.#sendRound(current, topic, round, positions, deadline);
        for (const { partition, firstSequence, records: sent } of round) {
          current.sequences.set(`${topic}/${partition}`, firstSequence + sent.length);
        }
      }
      return positions;
    } catch (error) {
      this.#identity = undefined;
      this.#disconnect(); // What is still under way must not land after the caller's next try if that can be helped.
      if (TOO_LARGE.has(protocolErrorOf(error) ?? "")) {
        const largest = records.reduce((most, record) => Math.max(most, record.key.length + record.value.length), 0);
        const what = `the brokers refuse a record for ${topic} by its size; the largest of these has ${largest} bytes`;
        throw new RecordTooLargeError(`${what} (topic setting max.message.bytes)`, { cause: error });
      }
      throw unavailable(
        this.#connection,
        `take ${records.length} records for ${topic} within ${this.#appendTimeoutMs} ms`,
        error,
      );
    }
  }

  /** Sends one batch a partition, side by side to their leaders; a retry repeats what is not acknowledged, unchanged. */
  async #sendRound(
    current: Identity,
    topic: string,
    round: Batch[],
    positions: Position[],
    deadline: number,
  ): Promise<void> {
    const open = new Map(round.map((batch) => [batch.partition, batch]));
    let first = true;
    await this.#attempt(deadline, async (cluster) => {
      await cluster.connect(); // Returns at once when connected.
      await cluster.addTargetTopic(topic);
      if (first) await cluster.refreshMetadataIfNecessary();
      else await cluster.refreshMetadata();
      first = false;
      const leaders = Object.entries(cluster.findLeaderForPartitions(topic, [...open.keys()]));
      const sent = leaders.map(async ([nodeId, partitions]) => {
        const broker = await cluster.findBroker({ nodeId });
        const batches = partitions.flatMap((partition) => open.get(partition) ?? []);
        const response = await produce(broker, {
          topic,
          batches,
          producerId: current.producerId,
          producerEpoch: current.producerEpoch,
          timeoutMs: this.#requestTimeoutMs,
          timestampMs: Date.now(),
          compression: compressorOf(this.#compression),
        });
        for (const { partition, baseOffset } of response.topics.flatMap((one) => one.partitions)) {
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
