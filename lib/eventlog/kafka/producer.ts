// Appending to Kafka: idempotent, acks=all. Each partition has one batch on its way at a time, whose sequence numbers are kept
// for all of its attempts; partitions of one leader share requests, of which a leader has at most five without an answer.
// So a partition's order is the callers', and what becomes of one leader is no business of the others.
//
// The sequence numbers are kept here and not by kafkajs's producer. That one takes a failed batch's numbers back and
// gives them to the next batch; if the failed one had landed after all, the broker takes the next for its duplicate and
// acknowledges records it never stored. Here a partition of which a batch has failed goes on under another identity.
//
// Leaders are asked for again at the first sign that they have moved, and as long as something is in trouble.

import type { Broker } from "kafkajs";
import { type AppendRecord, type OnSettled, type Position, RecordTooLargeError } from "../log.ts";
import { PartialAppendError } from "../partial-append.ts";
import { planChunks } from "./batches.ts";
import { isTransient, type KafkaConnection, unavailable, withTimeout } from "./client.ts";
import { type Compression, compressorOf } from "./codecs.ts";
import {
  type Call,
  createCall,
  createLane,
  dropLate,
  enqueue,
  fillBatch,
  hasNumbers,
  type Identity,
  type Lane,
  settleBatch,
  takeApart,
} from "./lane.ts";
import type { BrokerNode } from "./nodes.ts";
import type { ProduceRequest } from "./record-batch.ts";
import { isWithoutTopic, protocolErrorOf } from "./refusals.ts";
import { type Produced, produce } from "./requests.ts";
import { createRoutes, type Routes } from "./routes.ts";

/** A topic that was just created is unknown to some brokers for a moment. */
const UNKNOWN_TOPIC_PATIENCE_MS = 2_000;
/** How long a partition may be tried while others take records: about a change of leaders in good order. */
const PARTITION_PATIENCE_MS = 2_000;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 500;
/** Between two tries of a partition of which nothing else is known than that the last one has failed. */
const FAILING_REST_MS = 500;
/** Without an answer for so long, a leader may have been replaced. */
const SUSPECT_MS = 500;
const WATCH_MS = 100;
const REQUESTS_IN_FLIGHT_MAX = 5;
/** Bytes of one request over all partitions: bounds what is encoded at once. */
const REQUEST_BYTES_MAX = 16 * 1024 * 1024;
/** What may wait for a partition that is in trouble; more is refused at once. */
const TROUBLED_BYTES_MAX = 2 * 1024 * 1024;
const METADATA_AGE_MS_MAX = 30_000;
const TOO_LARGE = new Set(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"]);
/** Errors of a broker that has not appended the batch. */
const NOT_TAKEN = new Set([
  ...TOO_LARGE,
  "NOT_LEADER_FOR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  "NOT_ENOUGH_REPLICAS",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "UNKNOWN_TOPIC_ID",
  "INCONSISTENT_TOPIC_ID",
  "TOPIC_AUTHORIZATION_FAILED",
]);

export interface ProducerOptions {
  appendTimeoutMs: number;
  compression: Compression;
  /** As KafkaLogOptions has it. */
  partitions: number | undefined;
}

export interface KafkaProducer {
  /**
   * As EventLog.append, bounded by `appendTimeoutMs` from the call on. Rejects with PartialAppendError when some of the
   * records are durable. A partition that has failed makes one try with what comes next, until one succeeds.
   */
  append(
    topic: string,
    records: readonly AppendRecord[],
    signal?: AbortSignal,
    onSettled?: OnSettled,
  ): Promise<Position[]>;
  close(): void;
}

/** Connects at the first append. */
export function createKafkaProducer(connection: KafkaConnection, options: ProducerOptions): KafkaProducer {
  return new PipelinedProducer(connection, options);
}

class PipelinedProducer implements KafkaProducer {
  readonly #connection: KafkaConnection;
  readonly #partitions: number;
  readonly #appendTimeoutMs: number;
  readonly #requestTimeoutMs: number;
  readonly #compression: Compression;
  readonly #routes: Routes;
  readonly #lanes = new Map<string, Lane>();
  /** Those with anything queued or on its way. */
  readonly #busy = new Set<Lane>();
  /** Partitions of topics that have more than are used, once told. */
  readonly #unused = new Map<string, number>();
  readonly #preparing = new Map<string, Promise<void>>();
  /** There was an identity once; from then on who needs another one waits for it alone. */
  #isPrepared = false;
  #identity: Identity | undefined;
  #renewing: Promise<void> | undefined;
  /** No broker could be asked by the end of an append. */
  #isAway = false;
  #lastStoredAt = 0;
  #lastRefreshAt = 0;
  #isPumping = false;
  #watching: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(connection: KafkaConnection, options: ProducerOptions) {
    this.#connection = connection;
    this.#partitions = options.partitions ?? Number.POSITIVE_INFINITY;
    this.#appendTimeoutMs = options.appendTimeoutMs;
    this.#requestTimeoutMs = Math.min(5_000, Math.max(500, Math.floor(options.appendTimeoutMs / 3)));
    this.#compression = options.compression;
    this.#routes = createRoutes(connection, this.#requestTimeoutMs);
  }

  async append(
    topic: string,
    records: readonly AppendRecord[],
    signal?: AbortSignal,
    onSettled?: OnSettled,
  ): Promise<Position[]> {
    signal?.throwIfAborted();
    if (records.length === 0) return [];
    const deadline = performance.now() + this.#appendTimeoutMs;
    try {
      if (this.#closed) throw new Error("the log was closed");
      if (this.#routes.of(topic) === undefined || !this.#isPrepared) {
        const late = () => new Error("no answer in time");
        await withAbort(withTimeout(this.#prepare(topic, deadline), this.#appendTimeoutMs, late), signal);
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      throw this.#unavailable(topic, records.length, error);
    }
    const { promise, resolve } = Promise.withResolvers<(Position | Error)[]>();
    this.#enqueue(topic, records, createCall(records.length, { deadline, signal, onSettled, finished: resolve }));
    return positionsOf(await withAbort(promise, signal));
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watching);
    this.#routes.close();
    for (const lane of this.#busy) this.#giveUp(lane, new Error("the log was closed"), true);
    this.#busy.clear();
  }

  /** Finds an identity and the topic's leaders, for all appends that wait for them. */
  #prepare(topic: string, deadline: number): Promise<void> {
    let running = this.#preparing.get(topic);
    if (running === undefined) {
      running = this.#find(topic, deadline).finally(() => this.#preparing.delete(topic));
      running.catch(() => undefined); // The appends tell.
      this.#preparing.set(topic, running);
    }
    return running;
  }

  async #find(topic: string, deadline: number): Promise<void> {
    const begun = performance.now();
    for (let retryMs = RETRY_MS_MIN; ; retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)) {
      try {
        await this.#routes.refresh(topic);
        if (this.#identity === undefined) await this.#renew();
        this.#isAway = false;
        this.#isPrepared = true;
        return;
      } catch (error) {
        const isUnknown = isWithoutTopic(error);
        const now = performance.now();
        const isEnough = isUnknown && now - begun > UNKNOWN_TOPIC_PATIENCE_MS;
        const isLast = this.#isAway || now + retryMs >= deadline;
        if (isLast && !isUnknown) this.#isAway = true;
        if (this.#closed || !isTransient(error) || isEnough || isLast) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /** A new identity for those who cannot use the present one. */
  #renew(): Promise<void> {
    this.#renewing ??= this.#routes
      .askAny(initIdentity)
      .then((identity) => {
        this.#identity = identity;
      })
      .finally(() => {
        this.#renewing = undefined;
      });
    return this.#renewing;
  }

  #enqueue(topic: string, records: readonly AppendRecord[], call: Call): void {
    const { leaders = [], ageMs = 0 } = this.#routes.of(topic) ?? {};
    if (ageMs > METADATA_AGE_MS_MAX) this.#refresh(topic);
    if (leaders.length > this.#partitions) this.#noteUnused(topic, leaders.length);
    for (const chunk of planChunks(records, Math.min(leaders.length, this.#partitions))) {
      const name = `${topic}/${chunk.partition}`;
      const lane = this.#lanes.get(name) ?? createLane(topic, chunk.partition);
      this.#lanes.set(name, lane);
      if (lane.troubledAt !== undefined && lane.queuedBytes + chunk.bytes > TROUBLED_BYTES_MAX) {
        call.settle(chunk.indexes, this.#unavailable(topic, chunk.records.length, lane.trouble));
        continue;
      }
      enqueue(lane, { ...chunk, call });
      this.#busy.add(lane);
    }
    this.#pumpSoon();
  }

  #noteUnused(topic: string, partitions: number): void {
    if (this.#unused.get(topic) === partitions) return;
    this.#unused.set(topic, partitions);
    const message = "the topic has partitions that nothing goes to; docs/kafka.md says how to use them";
    this.#connection.logger.warn({ topic, partitions, kafkaPartitions: this.#partitions }, message);
  }

  /** Once for all appends of one moment. */
  #pumpSoon(): void {
    if (this.#isPumping || this.#closed) return;
    this.#isPumping = true;
    queueMicrotask(() => {
      this.#isPumping = false;
      if (!this.#closed) this.#pump();
    });
  }

  /** Sends each partition's next batch to its leader, unless it has to wait. */
  #pump(): void {
    const now = performance.now();
    const sending = new Map<BrokerNode, { topic: string; lanes: Lane[]; bytes: number }>();
    for (const lane of this.#busy) {
      if (lane.sentTo !== undefined || lane.retryAt > now) continue;
      if (lane.batch === undefined && !this.#fill(lane, now)) continue;
      const leader = this.#routes.leader(lane.topic, lane.partition);
      if (this.#mayBeInAnother(lane)) {
        // What is in the topic that was deleted may be a row already, and would be a second one from here.
        this.#giveUp(lane, new Error(`${lane.topic} was deleted and made again`), false);
        continue;
      }
      if (leader === undefined) {
        this.#setBack(lane, new Error(`${lane.topic}[${lane.partition}] has no leader`));
        continue;
      }
      if (leader.inFlight >= REQUESTS_IN_FLIGHT_MAX) continue;
      const request = sending.get(leader) ?? { topic: lane.topic, lanes: [], bytes: 0 };
      if (request.bytes > REQUEST_BYTES_MAX || request.topic !== lane.topic) {
        this.#pumpSoon(); // In a request of its own.
        continue;
      }
      request.lanes.push(lane);
      request.bytes += lane.batch?.bytes ?? 0;
      sending.set(leader, request);
    }
    for (const [leader, { topic, lanes }] of sending) void this.#send(leader, topic, lanes);
    if (this.#busy.size > 0) this.#watching ??= setInterval(() => this.#watch(), WATCH_MS);
  }

  #mayBeInAnother({ topic, batch }: Lane): boolean {
    const now = this.#routes.of(topic)?.id;
    return batch?.mayBeStored === true && batch.topicId !== undefined && now !== undefined && batch.topicId !== now;
  }

  #dropLate(lane: Lane, now: number): void {
    dropLate(lane, now, ({ call, indexes, records }) => {
      call.settle(indexes, this.#unavailable(lane.topic, records.length, lane.trouble));
    });
  }

  /** Makes the lane's next batch; false: there is nothing to send, or no identity to send it under yet. */
  #fill(lane: Lane, now: number): boolean {
    this.#dropLate(lane, now);
    if (lane.queue.length === 0) {
      this.#busy.delete(lane);
      return false;
    }
    if (lane.identity !== undefined && !hasNumbers(lane)) this.#burn(lane);
    if (lane.identity === undefined) {
      if (this.#identity === undefined) {
        const retry = (error: unknown) => this.#setBack(lane, error);
        lane.retryAt = Number.POSITIVE_INFINITY; // until it is there
        void this.#renew().then(() => {
          lane.retryAt = 0;
          this.#pumpSoon();
        }, retry);
        return false;
      }
      lane.identity = this.#identity;
      lane.sequence = 0;
    }
    fillBatch(lane, lane.identity);
    return true;
  }

  async #send(leader: BrokerNode, topic: string, lanes: readonly Lane[]): Promise<void> {
    const topicId = this.#routes.of(topic)?.id;
    const sent = lanes.flatMap((lane) => (lane.batch ? [{ lane, batch: lane.batch }] : []));
    for (const { lane, batch } of sent) {
      lane.sentTo = leader;
      lane.sentAt = performance.now();
      batch.topicId = topicId;
    }
    const doubted = new Set(sent.filter(({ batch }) => batch.mayBeStored).map(({ batch }) => batch));
    let answers = new Map<number, Produced>();
    let failure: unknown;
    try {
      const batches = sent.map(({ batch }) => batch);
      const produced = await leader.ask((broker) => {
        for (const batch of batches) batch.mayBeStored = true;
        return this.#produce(broker, { topic, topicId, batches });
      });
      answers = new Map(produced.map((one) => [one.partition, one]));
    } catch (error) {
      failure = error;
    }
    for (const { lane, batch } of sent) {
      lane.sentTo = undefined;
      if (lane.batch !== batch) continue; // Given up meanwhile.
      const { baseOffset, error } = answers.get(lane.partition) ?? { baseOffset: -1, error: failure };
      if (isNotTaken(error) && !doubted.has(batch)) batch.mayBeStored = false;
      if (error !== undefined) this.#failed(lane, error);
      else if (baseOffset < 0) this.#setBack(lane, new Error(`no offset was given for ${topic}[${lane.partition}]`));
      else this.#stored(lane, baseOffset);
    }
    if (!this.#closed) this.#pump();
  }

  #stored(lane: Lane, first: number): void {
    const { batch, partition } = lane;
    if (batch === undefined) return;
    this.#lastStoredAt = performance.now();
    lane.sequence += batch.records.length;
    lane.isFailing = false;
    settled(lane);
    settleBatch(batch, { partition, first });
  }

  #failed(lane: Lane, error: unknown): void {
    if (isTooLarge(error) && lane.batch && takeApart(lane, lane.batch)) return;
    if (isTransient(error)) this.#setBack(lane, error);
    else this.#giveUp(lane, error, !isTooLarge(error));
  }

  /** The batch is tried again when the leaders have been asked for, unless that is no use. */
  #setBack(lane: Lane, error: unknown): void {
    const now = performance.now();
    lane.trouble = error;
    lane.troubledAt ??= now;
    lane.retryMs = Math.min(Math.max(RETRY_MS_MIN, lane.retryMs * 2), RETRY_MS_MAX);
    lane.retryAt = now + lane.retryMs;
    lane.triedOn = this.#routes.leader(lane.topic, lane.partition);
    const { batch } = lane;
    this.#refresh(lane.topic, () => {
      if (lane.isFailing && lane.batch === batch && lane.sentTo === undefined && lane.retryAt > 0) {
        this.#giveUp(lane, error, true);
      }
    });
  }

  /** Asks for the leaders, whatever comes of it; what has a new one waits no longer. */
  #refresh(topic: string, then: () => void = () => undefined): void {
    this.#lastRefreshAt = performance.now();
    const learned = () => {
      for (const lane of this.#busy) {
        const leader = this.#routes.leader(lane.topic, lane.partition);
        if (lane.retryAt > 0 && leader !== undefined && leader !== lane.triedOn) lane.retryAt = 0;
      }
      then();
      this.#pumpSoon();
    };
    void this.#routes.refresh(topic).then(learned, learned);
  }

  /** Its fate stays unknown, unless the broker has refused it: those numbers are never used again. */
  #giveUp(lane: Lane, error: unknown, isFailing: boolean): void {
    const { batch, topic } = lane;
    lane.isFailing = isFailing;
    const reason = isTooLarge(error)
      ? tooLarge(topic, batch?.records ?? [], error)
      : this.#unavailable(topic, batch?.records.length ?? lane.queue.length, error);
    if (batch?.mayBeStored) this.#burn(lane);
    settled(lane);
    if (isFailing) {
      lane.triedOn = this.#routes.leader(topic, lane.partition);
      lane.retryAt = performance.now() + FAILING_REST_MS;
    }
    // What is still under way must not land after the caller's next try if that can be helped.
    lane.sentTo?.cut();
    if (batch !== undefined) settleBatch(batch, reason);
    if (batch === undefined || this.#closed) {
      for (const { call, indexes } of lane.queue.splice(0)) call.settle(indexes, reason);
      lane.queuedBytes = 0;
    }
    this.#pumpSoon();
  }

  #burn(lane: Lane): void {
    if (lane.identity === this.#identity) this.#identity = undefined;
    lane.identity = undefined;
  }

  /** Ends what takes too long, and looks for new leaders of what is in trouble. */
  #watch(): void {
    const now = performance.now();
    for (const lane of this.#busy) {
      this.#dropLate(lane, now);
      const { batch, troubledAt } = lane;
      if (batch !== undefined) {
        const reason = this.#unavailable(lane.topic, batch.records.length, lane.trouble);
        for (const part of batch.parts) {
          if (part.call === undefined || part.call.deadline > now) continue;
          part.call.settle(part.indexes, reason);
          part.call = undefined;
        }
        const isUnknown = isWithoutTopic(lane.trouble);
        const isLate = batch.parts.every(({ call }) => call === undefined);
        const isAlone =
          troubledAt !== undefined &&
          now - troubledAt > PARTITION_PATIENCE_MS &&
          (this.#lastStoredAt > troubledAt || isUnknown);
        if (isLate || isAlone) this.#giveUp(lane, lane.trouble, true);
        else if (troubledAt !== undefined || now - lane.sentAt > SUSPECT_MS) this.#suspect(lane, now);
      } else if (lane.queue.length === 0) this.#busy.delete(lane);
      else if (lane.isFailing) this.#suspect(lane, now);
    }
    this.#pump(); // What has waited long enough.
    if (this.#busy.size > 0) return;
    clearInterval(this.#watching);
    this.#watching = undefined;
  }

  #suspect(lane: Lane, now: number): void {
    if (now - this.#lastRefreshAt < SUSPECT_MS / 2) return;
    this.#refresh(lane.topic, () => {
      for (const one of this.#busy) {
        const leader = this.#routes.leader(one.topic, one.partition);
        // It hangs, and is not the leader any more: its answer would be worth nothing.
        if (one.sentTo !== undefined && leader !== undefined && leader !== one.sentTo) one.sentTo.cut();
      }
    });
  }

  #produce(broker: Broker, what: Pick<ProduceRequest, "topic" | "topicId" | "batches">): Promise<Produced[]> {
    const timeoutMs = this.#requestTimeoutMs;
    const compression = compressorOf(this.#compression);
    return produce(broker, { ...what, timeoutMs, timestampMs: Date.now(), compression });
  }

  #unavailable(topic: string, count: number, cause: unknown): Error {
    const what = `take ${count} records for ${topic} within ${this.#appendTimeoutMs} ms`;
    return unavailable(this.#connection, what, writeOf([topic]), cause);
  }
}

/** Producer ids come with Write on any topic, or before Kafka 2.8 with IdempotentWrite on the cluster. */
export function writeOf(topics: readonly string[]): string {
  return `Write and Describe on topic ${topics.join(", ")}`;
}

/** Throws unless all are durable. */
function positionsOf(outcomes: (Position | Error)[]): Position[] {
  const errors = outcomes.filter((outcome) => outcome instanceof Error);
  if (errors.length === 0) return outcomes as Position[];
  const told = errors.find((error) => !(error instanceof RecordTooLargeError)) ?? (errors[0] as Error);
  if (errors.length === outcomes.length) throw told;
  throw new PartialAppendError(`${told.message} (some of them are stored)`, outcomes, told.cause);
}

/** The broker says that it has not stored what it answers so. */
function isNotTaken(error: unknown): boolean {
  return NOT_TAKEN.has(protocolErrorOf(error) ?? "");
}

/** Nothing of the lane is on its way or in trouble. */
function settled(lane: Lane): void {
  lane.batch = undefined;
  lane.troubledAt = undefined;
  lane.retryAt = 0;
  lane.retryMs = 0;
}

function isTooLarge(error: unknown): boolean {
  return TOO_LARGE.has(protocolErrorOf(error) ?? "");
}

function tooLarge(topic: string, records: readonly AppendRecord[], cause: unknown): RecordTooLargeError {
  const largest = records.reduce((most, record) => Math.max(most, record.key.length + record.value.length), 0);
  const what = `the brokers refuse a record for ${topic} by its size; the largest of these has ${largest} bytes`;
  return new RecordTooLargeError(`${what} (topic setting max.message.bytes)`, { cause });
}

async function initIdentity(broker: Broker): Promise<Identity> {
  // Any broker hands out producer ids; kafkajs's types leave the request out.
  const { initProducerId } = broker as unknown as {
    initProducerId(request: { transactionTimeout: number }): Promise<Identity>;
  };
  const { producerId, producerEpoch } = await initProducerId.call(broker, { transactionTimeout: 60_000 });
  return { producerId, producerEpoch };
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
