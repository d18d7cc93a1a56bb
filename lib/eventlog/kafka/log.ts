// The event log on Kafka or Redpanda. This file and its siblings are the only importers of kafkajs.

import { setTimeout as pause } from "node:timers/promises";
import type { Admin, Cluster, ITopicConfig } from "kafkajs";
import {
  type Commit,
  LogUnavailableError,
  OffsetOutOfRangeError,
  type OpenLog,
  type PartitionBounds,
  type StoredRecord,
  type TopicSpec,
  UnfitTopicError,
} from "../log.ts";
import { sendTraced } from "../traces.ts";
import {
  createKafkaClient,
  isTransient,
  type KafkaClient,
  type KafkaConnection,
  openCluster,
  unavailable,
  withTimeout,
} from "./client.ts";
import type { Compression } from "./codecs.ts";
import { consumeGroup } from "./consumer.ts";
import { createFetcher } from "./fetcher.ts";
import { readTopic } from "./metadata.ts";
import { withNames } from "./names.ts";
import { checkPresent } from "./present-topics.ts";
import { createKafkaProducer, writeOf } from "./producer.ts";
import { isWithoutCoordinator, protocolErrorOf } from "./refusals.ts";

export interface KafkaLogOptions extends KafkaConnection {
  /** Silence after which a consumer's partitions move to others. Default 6,000 ms. */
  sessionTimeoutMs?: number | undefined;
  /** Bound on one append, its wait for earlier ones included. Default 15,000 ms. */
  appendTimeoutMs?: number | undefined;
  /** Replicas of created topics. Default: three, or all brokers if there are fewer. */
  replicationFactor?: number | undefined;
  /**
   * Over how many of a topic's partitions records are spread, by their keys. All that append must agree, and a topic can have
   * more: a record that is sent again while partitions are added then comes to the partition that has it. Default: all.
   */
  partitions?: number | undefined;
  /** Of appended batches; every compression can be read. Default none. */
  compression?: Compression | undefined;
}

const REQUEST_TIMEOUT_MS = 5_000;
const CALL_TIMEOUT_MS = 15_000;
/** Below the two seconds that a health check is given, so that its answer says what the broker did. */
const CHECK_TIMEOUT_MS = 1_500;
const CLOSE_TIMEOUT_MS = 5_000;
const LEADER_POLL_MS = 100;
const UNHEARD_MS_MAX = 2_000;
const SETTLING_POLL_MS = 100;
/** Of the time of a call, what brokers are given to settle: then their error is told, not that there was no answer. */
const SETTLING_SHARE = 0.9;

/** Connects lazily, so that a process can start while the brokers are away. */
export function createKafkaLog(options: KafkaLogOptions): OpenLog {
  const connection: KafkaConnection = options;
  const appendTimeoutMs = options.appendTimeoutMs ?? 15_000;
  const producer = createKafkaProducer(connection, {
    ...{ appendTimeoutMs, compression: options.compression ?? "none", partitions: options.partitions },
  });
  const adminConnection = createAdminConnection(connection);
  const closing = new AbortController();
  const consumers = new Set<Promise<void>>();
  const appendedTopics = new Set<string>();

  const log: OpenLog = {
    system: "kafka",
    pipelines: true,
    async append(topic, records, signal, onSettled) {
      const send = () => producer.append(topic, records, signal, onSettled);
      const positions = await sendTraced("kafka", topic, records, send);
      appendedTopics.add(topic);
      return positions;
    },

    async consume(consume) {
      const signal = AbortSignal.any([consume.signal, closing.signal]);
      const running = consumeGroup(connection, options.sessionTimeoutMs ?? 6_000, { ...consume, signal });
      const settled = running.catch(() => undefined); // Only for the disposal to wait on: the caller gets the error.
      consumers.add(settled);
      try {
        await running;
      } finally {
        consumers.delete(settled);
      }
    },

    tail: (topic, partition, read) =>
      adminConnection.ask(
        `read ${topic}[${partition}]`,
        readOf(topic),
        CALL_TIMEOUT_MS + read.maxWaitMs,
        async ({ cluster }) => {
          await cluster.addTargetTopic(topic);
          return tailOnce(cluster, topic, partition, read);
        },
      ),

    bounds: (topic) =>
      adminConnection.ask(`read the bounds of ${topic}`, `Describe on topic ${topic}`, CALL_TIMEOUT_MS, ({ admin }) =>
        topicBounds(admin, topic),
      ),

    committed: (topic, group) =>
      adminConnection.ask(
        `read the commits of ${group}`,
        `Describe on group ${group} and on topic ${topic}`,
        CALL_TIMEOUT_MS,
        ({ admin }) => topicCommits(admin, topic, group),
      ),

    createTopics(topics) {
      const made: string[] = [];
      return adminConnection.ask("create topics", createOf(topics), 2 * CALL_TIMEOUT_MS, async ({ admin }) => {
        const brokers = (await admin.describeCluster()).brokers.length;
        const replicationFactor = options.replicationFactor ?? Math.min(3, brokers);
        for (const spec of topics) {
          const config = topicConfig(spec, replicationFactor);
          if (await createTopic(admin, config)) made.push(spec.topic);
        }
        const present = topics.filter(({ topic }) => !made.includes(topic));
        if (present.length > 0) await checkPresent(admin, present, options.logger);
        return made;
      });
    },

    trim: (topic, partition, before) =>
      adminConnection.ask(
        `trim ${topic}[${partition}]`,
        `Delete and Describe on topic ${topic}`,
        CALL_TIMEOUT_MS,
        async ({ admin }) => {
          const bounds = (await topicBounds(admin, topic)).find((one) => one.partition === partition);
          if (bounds === undefined) throw new Error(`${topic} has no partition ${partition}`);
          if (before <= bounds.start) return;
          const offset = String(Math.min(before, bounds.end));
          await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset }] });
        },
      ),

    epoch: async () => undefined,

    topicId: (topic) =>
      adminConnection.ask(
        `read the id of ${topic}`,
        `Describe on topic ${topic}`,
        CALL_TIMEOUT_MS,
        async ({ cluster }) => {
          for (const begun = performance.now(); ; await pause(LEADER_POLL_MS)) {
            try {
              await cluster.addTargetTopic(topic);
              return (await readTopic(await cluster.findControllerBroker(), topic)).id;
            } catch (error) {
              // One that was just made is unknown to some brokers for a moment.
              if (!isUnheardOf(error) || performance.now() - begun > UNHEARD_MS_MAX) throw error;
            }
          }
        },
      ),

    check: () =>
      adminConnection.ask("take records", writeOf([...appendedTopics]), CHECK_TIMEOUT_MS, async ({ cluster }) => {
        for (const topic of appendedTopics) await cluster.addTargetTopic(topic);
        await cluster.refreshMetadata();
        for (const topic of appendedTopics) refuseUnwritable(cluster, topic);
      }),

    async [Symbol.asyncDispose]() {
      closing.abort();
      producer.close();
      const late = () => new Error(`consumers have not ended after ${CLOSE_TIMEOUT_MS} ms`);
      try {
        await withTimeout(Promise.all(consumers), CLOSE_TIMEOUT_MS, late);
      } catch (err) {
        options.logger.warn({ err }, "the log is closed while consumers still end");
      }
      adminConnection.close();
    },
  };
  return withNames(log, options);
}

interface AdminClients {
  client: KafkaClient;
  cluster: Cluster;
  admin: Admin;
}

interface AdminConnection {
  /** `work` may be done again. Rejects with LogUnavailableError naming `what` and, where ACLs refuse it, `needs`; the next call then gets a new connection. */
  ask<T>(what: string, needs: string, timeoutMs: number, work: (clients: AdminClients) => Promise<T>): Promise<T>;
  close(): void;
}

/** The connection for everything but appends and groups. */
function createAdminConnection(connection: KafkaConnection): AdminConnection {
  let current: { client: KafkaClient; clients: Promise<AdminClients> } | undefined;
  let closed = false;

  function open(): { client: KafkaClient; clients: Promise<AdminClients> } {
    const client = createKafkaClient(connection, REQUEST_TIMEOUT_MS);
    const connectAll = async (): Promise<AdminClients> => {
      const cluster = openCluster(client);
      const admin = client.kafka.admin();
      await Promise.all([cluster.connect(), admin.connect()]);
      return { client, cluster, admin };
    };
    return { client, clients: connectAll() };
  }

  return {
    async ask(what, needs, timeoutMs, work) {
      if (closed) throw new LogUnavailableError(`the log was closed: cannot ${what}`);
      current ??= open();
      const mine = current;
      const late = () => new Error(`no answer within ${timeoutMs} ms`);
      try {
        const settled = untilSettled(async () => work(await mine.clients), timeoutMs * SETTLING_SHARE);
        return await withTimeout(settled, timeoutMs, late);
      } catch (error) {
        if (error instanceof OffsetOutOfRangeError || error instanceof UnfitTopicError) throw error;
        // A refusal came over a working connection; anything else may mean that this one is dead.
        if (protocolErrorOf(error) === undefined) {
          if (current === mine) current = undefined;
          mine.client.kill();
        }
        if (error instanceof LogUnavailableError) throw error;
        throw unavailable(connection, what, needs, error);
      }
    },
    close() {
      closed = true;
      current?.client.kill();
      current = undefined;
    },
  };
}

/**
 * Again and again while brokers answer what the protocol calls retriable: one has just started or got the group, a leader or
 * coordinator moves. Only a topic that is not there is told at once: it will not come by waiting.
 */
async function untilSettled<T>(work: () => Promise<T>, timeoutMs: number): Promise<T> {
  for (const begun = performance.now(); ; await pause(SETTLING_POLL_MS)) {
    try {
      return await work();
    } catch (error) {
      // Without a coordinator it may also be that ACLs hide it, which is to be told soon.
      const patienceMs = isWithoutCoordinator(error) ? timeoutMs / 3 : isSettling(error) ? timeoutMs : 0;
      if (performance.now() - begun >= patienceMs) throw error;
    }
  }
}

function isSettling(error: unknown): boolean {
  const name = protocolErrorOf(error);
  return name !== undefined && name !== "UNKNOWN_TOPIC_OR_PARTITION" && isTransient(error);
}

function readOf(topic: string): string {
  return `Read and Describe on topic ${topic}`;
}

function createOf(topics: readonly TopicSpec[]): string {
  const names = topics.map(({ topic }) => topic).join(", ");
  return `Create and Describe on topics ${names}, or Create on the cluster`;
}

async function tailOnce(
  cluster: Cluster,
  topic: string,
  partition: number,
  read: { from: number; maxRecords: number; maxBytes: number; maxWaitMs: number },
): Promise<StoredRecord[]> {
  let failure: unknown;
  const fetcher = createFetcher(cluster, {
    onFailure(error) {
      failure = error;
    },
  });
  try {
    const records = await fetcher.open(topic, partition).read(read);
    // An empty answer says that there is nothing yet, which a failing fetch cannot know.
    if (records.length === 0 && failure !== undefined) throw failure;
    return records;
  } finally {
    fetcher.close();
  }
}

async function topicBounds(admin: Admin, topic: string): Promise<PartitionBounds[]> {
  const offsets = await admin.fetchTopicOffsets(topic);
  return offsets
    .map(({ partition, low, high }) => ({ partition, start: Number(low), end: Number(high) }))
    .sort((a, b) => a.partition - b.partition);
}

async function topicCommits(admin: Admin, topic: string, group: string): Promise<Map<number, Commit>> {
  const commits = new Map<number, Commit>();
  const answer = await admin.fetchOffsets({ groupId: group, topics: [topic] }).catch((error: unknown) => {
    // Some brokers say so of a group that never was; Kafka answers that it has no commits.
    if (protocolErrorOf(error) === "GROUP_ID_NOT_FOUND") return [];
    throw error;
  });
  for (const { partitions } of answer) {
    for (const { partition, offset, metadata } of partitions) {
      if (Number(offset) >= 0) commits.set(partition, { offset: Number(offset), metadata: metadata ?? "" });
    }
  }
  return commits;
}

function topicConfig({ topic, partitions }: TopicSpec, replicationFactor: number): ITopicConfig {
  // Retention must count from arrival: a back-dated import would be deleted as soon as it is written.
  const configEntries = [{ name: "message.timestamp.type", value: "LogAppendTime" }];
  if (replicationFactor >= 3) configEntries.push({ name: "min.insync.replicas", value: "2" });
  return { topic, numPartitions: partitions, replicationFactor, configEntries };
}

/** False when there is one of that name. Resolves when its partitions have leaders. */
async function createTopic(admin: Admin, config: ITopicConfig): Promise<boolean> {
  try {
    return await admin.createTopics({ topics: [config], waitForLeaders: true });
  } catch (error) {
    // It is made, and the broker asked for its leaders has not heard of it yet, for which kafkajs does not wait.
    if (!isUnheardOf(error)) throw error;
  }
  for (const deadline = performance.now() + CALL_TIMEOUT_MS; ; ) {
    await pause(LEADER_POLL_MS);
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [config.topic] });
      if (topics.every(({ partitions }) => partitions.every(({ leader }) => leader >= 0))) return true;
    } catch (error) {
      if (!isUnheardOf(error)) throw error;
    }
    if (performance.now() > deadline) throw new Error(`${config.topic} has partitions without a leader`);
  }
}

function isUnheardOf(error: unknown): boolean {
  return ["UNKNOWN_TOPIC_OR_PARTITION", "LEADER_NOT_AVAILABLE"].includes(protocolErrorOf(error) ?? "");
}

/** Throws when some partition could not take an acks=all append now, as far as metadata tells. */
function refuseUnwritable(cluster: Cluster, topic: string): void {
  for (const { partitionId, leader, isr, replicas } of cluster.findTopicPartitionMetadata(topic)) {
    if (leader < 0) throw new Error(`${topic}[${partitionId}] has no leader`);
    if (replicas.length >= 3 && isr.length < 2) throw new Error(`${topic}[${partitionId}] has one replica in sync`);
  }
}
