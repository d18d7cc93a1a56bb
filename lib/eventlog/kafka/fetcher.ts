// Pull reading from Kafka. kafkajs's consumer pushes batches and answers OFFSET_OUT_OF_RANGE by jumping to an end of the
// log; here a reader names the offset it wants and gets exactly that or an error. Each broker has at most one fetch
// under way (it answers the requests of one connection one after another), for all partitions that want records.

import type { Broker, Cluster } from "kafkajs";
import type { PartitionBounds, ReadOptions, StoredRecord } from "../log.ts";
import { fetchFromBroker } from "./fetch.ts";
import {
  arrival,
  createInbox,
  deliver,
  type Inbox,
  outOfRangeError,
  position,
  stopFetchingAhead,
  take,
  wantsRecords,
} from "./inbox.ts";
import { readTopic } from "./metadata.ts";
import { protocolErrorOf } from "./refusals.ts";

/** Rest between the fetches of a broker that answers with crumbs: batching is what makes reading cheap. */
const CRUMB_BYTES = 64 * 1024;
const CRUMB_REST_MS = 10;
const RETRY_AFTER_MS = 250;
/** Then the leader is asked for a replica again: one that lost touch with it would have nothing new for so long. */
const REPLICA_MS = 30_000;

export interface FetcherOptions {
  /** Replicas in this rack are read rather than leaders elsewhere, when the brokers name them (KIP-392). */
  rack?: string | undefined;
  /** A fetch failed and will be tried again; `sinceMs` is how long none has succeeded. */
  onFailure(error: unknown, sinceMs: number): void;
}

/** The records of one partition, for one reader at a time. */
export interface Feed {
  /** As Assignment.read. An abort of `signal` rejects with its reason. */
  read(options: ReadOptions, signal?: AbortSignal): Promise<StoredRecord[]>;
  bounds(): Promise<PartitionBounds>;
  /** Id of the topic that is read, and that of the one that has its name now; undefined where brokers give none. */
  topicIds(): Promise<{ read: string | undefined; now: string | undefined }>;
  close(): void;
}

export interface Fetcher {
  open(topic: string, partition: number): Feed;
  close(): void;
}

/**
 * Reads through `cluster`, which must be connected and stays the caller's to close. A topic is the one that was there at the
 * first question about it: of another one of its name nothing is read, where brokers can tell them apart.
 */
export function createFetcher(cluster: Cluster, options: FetcherOptions): Fetcher {
  return new FetchLoop(cluster, options);
}

class FetchLoop implements Fetcher {
  readonly #cluster: Cluster;
  readonly #options: FetcherOptions;
  readonly #inboxes = new Set<Inbox>();
  readonly #busyNodes = new Set<string>();
  readonly #topicIds = new Map<string, string | undefined>();
  #closed = false;
  #failingSince: number | undefined;
  /** A replica was asked in vain: till then leaders are not asked for one, or they would name the same again. */
  #leadersUntilMs = 0;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(cluster: Cluster, options: FetcherOptions) {
    this.#cluster = cluster;
    this.#options = options;
  }

  #kick(): void {
    if (this.#closed || this.#retryTimer !== undefined) return;
    const wanting = [...this.#inboxes].filter(wantsRecords);
    if (wanting.length === 0) return;
    let byNode: Map<string, Inbox[]>;
    try {
      byNode = groupByNode(this.#cluster, wanting);
    } catch (error) {
      this.#failed(error);
      return;
    }
    for (const [nodeId, group] of byNode) {
      if (this.#busyNodes.has(nodeId)) continue;
      this.#busyNodes.add(nodeId);
      void this.#fetchFrom(nodeId, group).finally(() => {
        this.#busyNodes.delete(nodeId);
        this.#kick();
      });
    }
  }

  async #fetchFrom(nodeId: string, group: Inbox[]): Promise<void> {
    const wanted = new Map(group.map((inbox) => [inbox, inbox.next]));
    try {
      const broker = await this.#cluster.findBroker({ nodeId });
      const rack = performance.now() < this.#leadersUntilMs ? undefined : this.#options.rack;
      for (const { topic } of group) if (!this.#topicIds.has(topic)) await this.#askTopicId(broker, topic);
      const response = await fetchFromBroker(broker, group, this.#topicIds, rack);
      this.#failingSince = undefined;
      let bytes = 0;
      for (const { topicName, partitions } of response) {
        for (const fetched of partitions) {
          const inbox = group.find((one) => one.topic === topicName && one.partition === fetched.partition);
          // A reader that moved on while the fetch was under way has no use for what it brought.
          if (inbox === undefined || inbox.next !== wanted.get(inbox)) continue;
          const { preferredReadReplica = -1 } = fetched;
          if (preferredReadReplica >= 0) {
            inbox.replica = { nodeId: String(preferredReadReplica), untilMs: performance.now() + REPLICA_MS };
            continue; // Nothing else is in the answer.
          }
          bytes += deliver(inbox, fetched);
          this.#noteProgress(inbox);
        }
      }
      if (bytes < CRUMB_BYTES) await new Promise((resolve) => setTimeout(resolve, CRUMB_REST_MS));
    } catch (error) {
      if (group.some(({ replica }) => replica?.nodeId === nodeId))
        this.#leadersUntilMs = performance.now() + REPLICA_MS;
      for (const one of group) one.replica = undefined;
      const inbox = outOfRange(error, group);
      if (inbox !== undefined && inbox.next === wanted.get(inbox)) await this.#settleOutOfRange(inbox, inbox.next);
      else if (inbox === undefined) this.#failed(error);
    }
  }

  /** Kafka says that `offset` is not on the log. Checked against the bounds, since a stop is the consequence. */
  async #settleOutOfRange(inbox: Inbox, offset: number): Promise<void> {
    try {
      const { start, end } = await fetchBounds(this.#cluster, inbox.topic, inbox.partition);
      if (inbox.next !== offset) return;
      if (offset >= start && offset <= end) {
        this.#failed(new Error(`offset ${offset} was out of range a moment ago`));
        return;
      }
      stopFetchingAhead(inbox);
      inbox.waiter?.reject(outOfRangeError(inbox, offset, `the log holds ${start} to ${end - 1}`));
    } catch (error) {
      this.#failed(error);
    }
  }

  async #askTopicId(broker: Broker, topic: string): Promise<string | undefined> {
    const { id } = await readTopic(broker, topic);
    // The first answer of all that ask counts.
    if (!this.#topicIds.has(topic)) this.#topicIds.set(topic, id);
    return id;
  }

  /** Reports a partition that answers with nothing although it has records. */
  #noteProgress(inbox: Inbox): void {
    if (inbox.records.length > 0 || inbox.next >= inbox.end) {
      inbox.emptySince = undefined;
      return;
    }
    inbox.emptySince ??= performance.now();
    const what = `${inbox.topic}[${inbox.partition}] has ${inbox.end - inbox.next} records from ${inbox.next} and sends none`;
    this.#options.onFailure(new Error(what), performance.now() - inbox.emptySince);
  }

  /** Fetching rests for a moment and goes on with fresh metadata: leaders move and brokers restart. */
  #failed(error: unknown): void {
    if (this.#closed || this.#retryTimer !== undefined) return;
    this.#failingSince ??= performance.now();
    const since = this.#failingSince;
    this.#options.onFailure(error, performance.now() - since);
    for (const { waiter } of this.#inboxes) if (waiter?.overdue) waiter.resolve();
    this.#retryTimer = setTimeout(() => {
      const topics = [...new Set([...this.#inboxes].map((inbox) => inbox.topic))];
      void Promise.all(topics.map((topic) => this.#cluster.addTargetTopic(topic)))
        .then(() => this.#cluster.refreshMetadata())
        .catch((cause: unknown) => this.#options.onFailure(cause, performance.now() - since))
        .finally(() => {
          this.#retryTimer = undefined;
          this.#kick();
        });
    }, RETRY_AFTER_MS);
  }

  open(topic: string, partition: number): Feed {
    const inbox = createInbox(topic, partition);
    this.#inboxes.add(inbox);
    const kick = () => this.#kick();
    return {
      async read(options, signal) {
        signal?.throwIfAborted();
        if (inbox.waiter !== undefined) throw new Error(`two reads of ${topic}[${partition}] at once`);
        inbox.lastReadAt = performance.now();
        position(inbox, options.from);
        if (inbox.records.length === 0) await arrival(inbox, options.maxWaitMs, kick, signal);
        const records = take(inbox, options.maxRecords, options.maxBytes);
        inbox.lastReadAt = performance.now();
        kick();
        return records;
      },
      bounds: () => fetchBounds(this.#cluster, topic, partition),
      topicIds: async () => {
        const broker = await this.#cluster.findBroker({ nodeId: leaderOf(this.#cluster, topic, partition) });
        const now = await this.#askTopicId(broker, topic);
        return { read: this.#topicIds.get(topic), now };
      },
      close: () => {
        this.#inboxes.delete(inbox);
        inbox.waiter?.reject(new Error(`reading of ${topic}[${partition}] has ended`));
        inbox.records = [];
      },
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    for (const inbox of this.#inboxes) inbox.waiter?.reject(new Error("reading has ended"));
    this.#inboxes.clear();
  }
}

/** Oldest and next offset of one partition, asked of its leader. */
export async function fetchBounds(cluster: Cluster, topic: string, partition: number): Promise<PartitionBounds> {
  const ask = async (fromBeginning: boolean): Promise<number> => {
    const answers = await cluster.fetchTopicsOffset([{ topic, fromBeginning, partitions: [{ partition }] }]);
    const offset = answers[0]?.partitions[0]?.offset;
    if (offset === undefined) throw new Error(`no leader is known for ${topic}[${partition}]`);
    return Number(offset);
  };
  // The start first: asked the other way round, a trim in between could make it look larger than the end.
  const start = await ask(true);
  return { partition, start, end: await ask(false) };
}

function groupByNode(cluster: Cluster, inboxes: Inbox[]): Map<string, Inbox[]> {
  const byNode = new Map<string, Inbox[]>();
  const now = performance.now();
  for (const inbox of inboxes) {
    const { topic, partition, replica } = inbox;
    const nodeId = replica && replica.untilMs > now ? replica.nodeId : leaderOf(cluster, topic, partition);
    const group = byNode.get(nodeId);
    if (group === undefined) byNode.set(nodeId, [inbox]);
    else group.push(inbox);
  }
  return byNode;
}

function leaderOf(cluster: Cluster, topic: string, partition: number): string {
  const [leader] = Object.keys(cluster.findLeaderForPartitions(topic, [partition]));
  if (leader === undefined) throw new Error(`no leader is known for ${topic}[${partition}]`);
  return leader;
}

function outOfRange(error: unknown, group: Inbox[]): Inbox | undefined {
  if (protocolErrorOf(error) !== "OFFSET_OUT_OF_RANGE" || !(error instanceof Error)) return undefined;
  const { topic, partition } = error as Error & { topic?: string; partition?: number };
  return group.find((inbox) => inbox.topic === topic && inbox.partition === partition);
}
