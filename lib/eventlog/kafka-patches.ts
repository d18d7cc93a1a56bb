// Repairs to kafkajs 2.2.4, which has had no release for years. All of them replace methods of its internal classes; the
// version is pinned, and a method that is not where it is expected stops the process at start-up.

import { createRequire } from "node:module";
import type { Broker, Cluster } from "kafkajs";
import { encodeProduceBody, type ProduceRequest } from "./kafka-record-batch.ts";

/** What one successful join of a consumer group gave this member. */
export interface Membership {
  memberId: string;
  generationId: number;
  coordinator: Broker;
  /** Partition numbers by topic. */
  assigned: Map<string, number[]>;
}

export interface GroupHooks {
  /** Runs before every join or rejoin is sent, which waits for it. Must not reject. */
  beforeJoin(): Promise<void>;
  /** Runs synchronously when a join and its sync have succeeded. */
  joined(membership: Membership): void;
}

interface ConsumerGroup {
  cluster: Cluster;
  topicsSubscribed: string[];
  offsetManager: { memberId: string; generationId: number; coordinator: Broker };
  pause(topics: { topic: string }[]): void;
  assigned(): { topic: string; partitions: number[] }[];
  joinAndSync(): Promise<void>;
}

interface RequestQueue {
  pending: unknown[];
  inflight: Map<number, { sentAt: number; requestTimeout: number; timeoutRequest(): void }>;
  throttledUntil: number;
  enforceRequestTimeout: boolean;
  requestTimeoutIntervalId?: NodeJS.Timeout;
  isConnected(): boolean;
  destroy(): void;
  scheduleCheckPendingRequests(): void;
  scheduleRequestTimeoutCheck(): void;
}

const TIMEOUT_CHECK_INTERVAL_MS = 500;

const require = createRequire(import.meta.url);
const hooksOfCluster = new WeakMap<Cluster, GroupHooks>();
let patched = false;

/** Applies the repairs once per process; later calls do nothing. */
export function patchKafkajs(): void {
  if (patched) return;
  patched = true;
  const queue = prototypeOf<RequestQueue>("network/requestQueue/index.js", "scheduleCheckPendingRequests");
  stopIdleSpin(queue);
  calmTimeoutCheck(queue);
  hookJoins(prototypeOf<ConsumerGroup>("consumer/consumerGroup.js", "joinAndSync"));
}

/** Watches the joins of the one consumer that runs on `cluster`. */
export function onGroupJoins(cluster: Cluster, hooks: GroupHooks): void {
  hooksOfCluster.set(cluster, hooks);
}

interface Protocol {
  request: object;
  response: unknown;
}

interface BrokerInternals {
  lookupRequest(apiKey: number, versions: unknown): (fields: object) => Protocol;
  connectionPool: { send(protocol: Protocol): Promise<ProduceResponse> };
}

export interface ProduceResponse {
  topics: { partitions: { partition: number; baseOffset: string }[] }[];
}

const PRODUCE_API_KEY = 0;

/** As Broker.produce with acks=all, but with the body that kafka-record-batch.ts encodes. */
export async function produce(broker: Broker, request: ProduceRequest): Promise<ProduceResponse> {
  const body = await encodeProduceBody(request);
  const { requests } = require("kafkajs/src/protocol/requests") as { requests: { Produce: unknown } };
  const internals = broker as unknown as BrokerInternals;
  const protocol = internals.lookupRequest(PRODUCE_API_KEY, requests.Produce)({ acks: -1 });
  // All that kafkajs takes from an encoder is its bytes.
  const encode = async () => ({ buf: body, buffer: body });
  return internals.connectionPool.send({ ...protocol, request: { ...protocol.request, encode } });
}

function prototypeOf<T>(path: string, method: keyof T & string): T {
  const { prototype } = require(`kafkajs/src/${path}`) as { prototype: T };
  if (typeof prototype[method] !== "function") {
    throw new Error(`kafkajs/src/${path} has no ${method}: the repairs of kafka-patches.ts are for kafkajs 2.2.4`);
  }
  return prototype;
}

/**
 * After every response a queue re-arms its throttling timer, with a delay that is negative unless the broker throttles.
 * Node 24 warns once and fires after 1 ms: every idle connection wakes 900 times a second for nothing.
 */
function stopIdleSpin(queue: RequestQueue): void {
  const original = queue.scheduleCheckPendingRequests;
  queue.scheduleCheckPendingRequests = function (this: RequestQueue): void {
    if (this.pending.length === 0 && this.throttledUntil <= Date.now()) return;
    original.call(this);
  };
}

/**
 * The check for timed-out requests ran ten times a second on every connection, and ended itself as soon as the connection
 * began to close, so that a request still in flight to a hung broker then kept the close waiting for ever.
 */
function calmTimeoutCheck(queue: RequestQueue): void {
  queue.scheduleRequestTimeoutCheck = function (this: RequestQueue): void {
    if (!this.enforceRequestTimeout) return;
    this.destroy();
    this.requestTimeoutIntervalId = setInterval(() => {
      for (const request of [...this.inflight.values()]) {
        if (Date.now() - request.sentAt > request.requestTimeout) request.timeoutRequest();
      }
      if (!this.isConnected() && this.inflight.size === 0) this.destroy();
    }, TIMEOUT_CHECK_INTERVAL_MS);
  };
}

/**
 * Puts the hooks around the one method through which kafkajs joins and rejoins a group, and adds two things:
 * kafkajs fetches nothing by itself (all partitions are paused from the start; kafka-fetcher.ts fetches), and joins of
 * one group never overlap (with several brokers, two fetch loops could rejoin at once, and the assignment of one join
 * would then have been seen together with the generation of the other).
 */
function hookJoins(group: ConsumerGroup): void {
  const original = group.joinAndSync;
  const running = new WeakMap<ConsumerGroup, Promise<void>>();
  const join = async (self: ConsumerGroup): Promise<void> => {
    const hooks = hooksOfCluster.get(self.cluster);
    if (hooks === undefined) return original.call(self);
    self.pause(self.topicsSubscribed.map((topic) => ({ topic })));
    await hooks.beforeJoin();
    await original.call(self);
    // kafkajs builds a new offset manager in each sync, from the very answer that carried the assignment: member,
    // generation and partitions taken here belong together.
    const { memberId, generationId, coordinator } = self.offsetManager;
    const assigned = new Map(self.assigned().map(({ topic, partitions }) => [topic, [...partitions]]));
    hooks.joined({ memberId, generationId, coordinator, assigned });
  };
  group.joinAndSync = function (this: ConsumerGroup): Promise<void> {
    const current = running.get(this);
    if (current !== undefined) return current;
    const next = join(this).finally(() => running.delete(this));
    running.set(this, next);
    return next;
  };
}
