// Appending to Kafka: idempotent, acks=all, one request round at a time.
//
// The sequence numbers are kept here and not by kafkajs's producer. That one takes a failed batch's numbers back and
// gives them to the next batch; if the failed one had landed after all, the broker takes the next for its duplicate and
// acknowledges records it never stored. Here a batch keeps its numbers for all of its attempts, and a producer identity
// that has seen a batch fail is never used again.
//
// Partitions fail one by one: what the others have is told as durable (PartialAppendError), and neither one bad partition
// nor brokers that are known to be away hold the next append up for its whole time.

import type { Broker, Cluster } from "kafkajs";
import { type AppendRecord, type Position, RecordTooLargeError } from "../log.ts";
import { PartialAppendError } from "../partial-append.ts";
import { type Batch, type Identity, planRounds } from "./batches.ts";
import {
  createKafkaClient,
  isTransient,
  type KafkaClient,
  type KafkaConnection,
  openCluster,
  unavailable,
  withTimeout,
} from "./client.ts";
import { type Compression, compressorOf } from "./codecs.ts";
import { type ProduceResponse, produce } from "./patches.ts";
import { protocolErrorOf } from "./refusals.ts";
import { createRound } from "./round.ts";

/** A topic that was just created is unknown to some brokers for a moment. */
const UNKNOWN_TOPIC_PATIENCE_MS = 2_000;
/** How long a partition may hold up an append that all others have taken: about a change of leaders in good order. */
const PARTITION_PATIENCE_MS = 2_000;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1_000;
const TOO_LARGE = new Set(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"]);

export interface KafkaProducer {
  /**
   * As EventLog.append, bounded by `appendTimeoutMs` from the call on, its wait for earlier appends included. Rejects with
   * PartialAppendError when some of the records are durable. After an append that failed as a whole each further one
   * makes one try, until one succeeds; so does a partition that failed.
   */
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
  /** The last append failed as a whole. */
  #away = false;
  /** `topic/partition` of those that last failed while others took records. */
  readonly #failing = new Set<string>();

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
    const late = () => this.#unavailable(topic, records, undefined);
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

  /** Tries until it succeeds, fails for good, `isEnough` of trying, or the deadline has passed. */
  async #attempt<T>(
    deadline: number,
    work: (cluster: Cluster) => Promise<T>,
    isEnough: (spentMs: number) => boolean = () => this.#away,
  ): Promise<T> {
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
      if (this.#closed || !isTransient(failure) || spentMs > patienceMs || isEnough(spentMs)) throw failure;
      if (performance.now() + retryMs >= deadline) throw failure;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  async #appendNow(topic: string, records: readonly AppendRecord[], deadline: number): Promise<Position[]> {
    const outcomes = new Array<Position | Error>(records.length);
    try {
      this.#identity ??= await this.#attempt(deadline, initIdentity);
      const current = this.#identity;
      const partitions = await this.#attempt(deadline, (cluster) => partitionCount(cluster, topic));
      for (const round of planRounds(current, topic, records, partitions)) {
        await this.#sendRound(current, topic, round, outcomes, deadline);
        for (const { partition, firstSequence, records: sent } of round) {
          current.sequences.set(`${topic}/${partition}`, firstSequence + sent.length);
        }
      }
      this.#away = false;
      return outcomes as Position[]; // No round has failed.
    } catch (error) {
      this.#identity = undefined;
      this.#disconnect(); // What is still under way must not land after the caller's next try if that can be helped.
      const isPartial = outcomes.some((outcome) => !(outcome instanceof Error));
      this.#away = !isPartial && !isTooLarge(error);
      if (!isPartial)
        throw isTooLarge(error) ? tooLarge(topic, records, error) : this.#unavailable(topic, records, error);
      const rest = this.#unavailable(topic, records, error);
      const message = `${rest.message} (some of them are stored)`;
      throw new PartialAppendError(
        message,
        Array.from(outcomes, (outcome) => outcome ?? rest),
        error,
      );
    }
  }

  /** Resolves when all of the round is durable. Otherwise `outcomes` has what is known of some of its records. */
  async #sendRound(
    current: Identity,
    topic: string,
    batches: Batch[],
    outcomes: (Position | Error)[],
    deadline: number,
  ): Promise<void> {
    const nameOf = (partition: number) => `${topic}/${partition}`;
    const round = createRound(topic, batches, {
      produce: (broker, some) => this.#produce(broker, current, topic, some),
      stored: ({ partition, indexes }, baseOffset) => {
        this.#failing.delete(nameOf(partition));
        for (const [i, index] of indexes.entries()) outcomes[index] = { partition, offset: baseOffset + i };
      },
      refused: ({ records, indexes }, error) => {
        const reason = isTooLarge(error) ? tooLarge(topic, records, error) : this.#unavailable(topic, records, error);
        for (const index of indexes) outcomes[index] = reason;
      },
    });
    const isEnough = (spentMs: number): boolean =>
      this.#away ||
      (spentMs > PARTITION_PATIENCE_MS && round.open().length < batches.length) ||
      round.open().every((partition) => this.#failing.has(nameOf(partition)));
    try {
      await this.#attempt(deadline, round.send, isEnough);
    } catch (error) {
      const open = round.open();
      if (open.length < batches.length) for (const partition of open) this.#failing.add(nameOf(partition));
      throw error;
    }
    if (round.refusal() !== undefined) throw round.refusal();
  }

  #produce(broker: Broker, current: Identity, topic: string, batches: readonly Batch[]): Promise<ProduceResponse> {
    return produce(broker, {
      topic,
      batches,
      producerId: current.producerId,
      producerEpoch: current.producerEpoch,
      timeoutMs: this.#requestTimeoutMs,
      timestampMs: Date.now(),
      compression: compressorOf(this.#compression),
    });
  }

  #unavailable(topic: string, records: readonly AppendRecord[], cause: unknown): Error {
    const what = `take ${records.length} records for ${topic} within ${this.#appendTimeoutMs} ms`;
    return unavailable(this.#connection, what, writeOf([topic]), cause);
  }
}

/** Producer ids come with Write on any topic, or before Kafka 2.8 with IdempotentWrite on the cluster. */
export function writeOf(topics: readonly string[]): string {
  return `Write and Describe on topic ${topics.join(", ")}`;
}

function isTooLarge(error: unknown): boolean {
  return TOO_LARGE.has(protocolErrorOf(error) ?? "");
}

function tooLarge(topic: string, records: readonly AppendRecord[], cause: unknown): RecordTooLargeError {
  const largest = records.reduce((most, record) => Math.max(most, record.key.length + record.value.length), 0);
  const what = `the brokers refuse a record for ${topic} by its size; the largest of these has ${largest} bytes`;
  return new RecordTooLargeError(`${what} (topic setting max.message.bytes)`, { cause });
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
