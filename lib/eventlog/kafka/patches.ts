// Repairs to kafkajs 2.2.4, which has had no release for years. All of them replace methods of its internal classes; the
// version is pinned, and a method that is not where it is expected stops the process at start-up.

import { createRequire } from "node:module";
import type { Broker, Cluster } from "kafkajs";
import { type FetchedRecord, readRecordBatches } from "./record-batch-reader.ts";
import type { BrokerInternals } from "./requests.ts";

/** What one successful join of a consumer group gave this member. */
export interface Membership {
  memberId: string;
  generationId: number;
  coordinator: Broker;
  /** Partition numbers by topic. */
  assigned: Map<string, number[]>;
}

/**
 * The id under which the coordinator knows this process. It outlives connections: a member that joins again under its id
 * takes the place it had, while under a new one the group waits until the session of the old one has expired.
 */
export interface MemberIdentity {
  /** Undefined: never joined, or the coordinator has forgotten it. */
  memberId: string | undefined;
  /** How many joins have succeeded. */
  joins: number;
}

export interface GroupHooks {
  readonly identity: MemberIdentity;
  /** Runs before every join or rejoin is sent, which waits for it. Must not reject. */
  beforeJoin(): Promise<void>;
  /** Runs synchronously when a join and its sync have succeeded. */
  joined(membership: Membership): void;
}

interface ConsumerGroup {
  cluster: Cluster;
  groupId: string;
  memberId: string | null;
  sessionTimeout: number;
  rebalanceTimeout: number;
  assigners: { protocol(subscription: { topics: string[] }): object }[];
  topicsSubscribed: string[];
  offsetManager: { memberId: string; generationId: number; coordinator: Broker };
  pause(topics: { topic: string }[]): void;
  assigned(): { topic: string; partitions: number[] }[];
  joinAndSync(): Promise<void>;
  leave(): Promise<void>;
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
const JOIN_METHOD = "private:ConsumerGroup:join";

const require = createRequire(import.meta.url);
const { lookupCodecByAttributes } = require("kafkajs/src/protocol/message/compression") as {
  lookupCodecByAttributes(attributes: number): Codec;
};
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
  keepIdentity(prototypeOf<ConsumerGroup>("consumer/consumerGroup.js", "leave"));
  askEachForVersions(prototypeOf<BrokerPool>("cluster/brokerPool.js", "connect"));
  readFetchedRecords();
  writeHeadsInPlace(prototypeOf<Encoder>("protocol/encoder.js", "writeEncoder"));
}

/** Watches the joins of the one consumer that runs on `cluster`. */
export function onGroupJoins(cluster: Cluster, hooks: GroupHooks): void {
  hooksOfCluster.set(cluster, hooks);
}

interface GroupBroker extends BrokerInternals {
  leaveGroup(request: { groupId: string; memberId: string }): Promise<void>;
}

const JOIN_GROUP_API_KEY = 11;

/** Tells the coordinator that this member will not come back, so that its partitions need not wait for its session. */
export async function leaveGroup(coordinator: Broker, groupId: string, memberId: string): Promise<void> {
  await (coordinator as unknown as GroupBroker).leaveGroup({ groupId, memberId });
}

function prototypeOf<T>(path: string, method: keyof T & string): T {
  const { prototype } = require(`kafkajs/src/${path}`) as { prototype: T };
  if (typeof prototype[method] !== "function") {
    throw new Error(`kafkajs/src/${path} has no ${method}: the repairs of patches.ts are for kafkajs 2.2.4`);
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
 * kafkajs fetches nothing by itself (all partitions are paused from the start; fetcher.ts fetches), and joins of
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
    hooks.identity.joins += 1;
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

/**
 * kafkajs learns the id that the coordinator gives a new member only when its join has been answered, which takes as long
 * as the slowest member. If the connection breaks meanwhile, the id is in the group and nobody answers to it: the others
 * wait for its session to expire, and it may even be their leader. So the id is asked for by itself, which is answered at
 * once, and kept. And kafkajs leaves the group on every crash; here only who has no use for the id any more leaves.
 */
function keepIdentity(group: ConsumerGroup): void {
  const join = Object.getOwnPropertySymbols(group).find(({ description }) => description === JOIN_METHOD);
  if (join === undefined) throw new Error(`kafkajs's ConsumerGroup has no ${JOIN_METHOD}: the repairs are for 2.2.4`);
  const methods = group as unknown as Record<symbol, (this: ConsumerGroup) => Promise<void>>;
  const originalJoin = methods[join] as (this: ConsumerGroup) => Promise<void>;
  methods[join] = async function (this: ConsumerGroup): Promise<void> {
    const identity = hooksOfCluster.get(this.cluster)?.identity;
    if (identity === undefined) return originalJoin.call(this);
    identity.memberId ??= await askMemberId(this);
    this.memberId = identity.memberId;
    try {
      await originalJoin.call(this);
    } catch (error) {
      // kafkajs asks again without an id, and so does the next attempt here.
      if ((error as { type?: string }).type === "UNKNOWN_MEMBER_ID") identity.memberId = undefined;
      throw error;
    }
  };
  const originalLeave = group.leave;
  group.leave = async function (this: ConsumerGroup): Promise<void> {
    if (!hooksOfCluster.has(this.cluster)) await originalLeave.call(this);
  };
}

async function askMemberId(group: ConsumerGroup): Promise<string> {
  const { groupId, sessionTimeout, rebalanceTimeout, topicsSubscribed: topics } = group;
  const coordinator = (await group.cluster.findGroupCoordinator({ groupId })) as unknown as BrokerInternals;
  const { requests } = require("kafkajs/src/protocol/requests") as { requests: { JoinGroup: unknown } };
  const protocol = coordinator.lookupRequest(
    JOIN_GROUP_API_KEY,
    requests.JoinGroup,
  )({
    ...{ groupId, sessionTimeout, rebalanceTimeout, memberId: "", protocolType: "consumer" },
    groupProtocols: group.assigners.map((assigner) => assigner.protocol({ topics })),
  });
  try {
    // Brokers before Kafka 2.2 take a member at its first word; joining again under the id does no harm.
    return (await coordinator.connectionPool.send<{ memberId: string }>(protocol)).memberId;
  } catch (error) {
    const { name, memberId } = error as { name?: string; memberId?: string };
    if (name !== "KafkaJSMemberIdRequired" || memberId === undefined) throw error;
    return memberId;
  }
}

interface BrokerPool {
  /** Those of the first broker, which all brokers found through it are taken to know. */
  versions: BrokerInternals["versions"];
  connect(): Promise<void>;
}

/**
 * kafkajs asks the first broker alone which requests it knows. While a cluster is upgraded others know fewer, and close the
 * connection on one that they do not know; without an answer for all, each is asked when it is connected.
 */
function askEachForVersions(pool: BrokerPool): void {
  const original = pool.connect;
  pool.connect = async function (this: BrokerPool): Promise<void> {
    await original.call(this);
    this.versions = null;
  };
}

interface Encoder {
  buf: Buffer;
  offset: number;
  readonly buffer: Buffer;
  /** Bytes before `buf` in its memory that nobody else has. */
  room?: number;
  writeEncoder(value: Encoder): Encoder;
}

/**
 * kafkajs puts a request's head before its body by copying both, and then its length before both by copying them again,
 * each time into zeroed memory of up to twice the size. Where there is room before the body, it stays where it is.
 */
function writeHeadsInPlace(encoder: Encoder): void {
  const original = encoder.writeEncoder;
  encoder.writeEncoder = function (this: Encoder, value: Encoder): Encoder {
    const { room } = value;
    if (room === undefined || room < this.offset) return original.call(this, value);
    const { buffer, byteOffset, length } = value.buffer;
    const whole = Buffer.from(buffer, byteOffset - this.offset, this.offset + length);
    this.buf.copy(whole, 0, 0, this.offset);
    this.room = room - this.offset;
    this.offset = whole.length;
    this.buf = whole;
    return this;
  };
}

interface Decoder {
  readInt32(): number;
  canReadBytes(length: number): boolean;
  readBytes(length: number): Buffer;
}

type DecodeMessages = (decoder: Decoder) => Promise<unknown[]>;
type Codec = { decompress(records: Buffer): Promise<Buffer> } | undefined | null;

const DECODE_MESSAGES = "kafkajs/src/protocol/requests/fetch/v4/decodeMessages.js";
/** Where the version of the format stands; the same in all of them. */
const MAGIC_AT = 16;

/** kafkajs loads what reads an answer with the first fetch of its version, and so finds this one. */
function readFetchedRecords(): void {
  require(DECODE_MESSAGES);
  const loaded = require.cache[require.resolve(DECODE_MESSAGES)];
  const original = loaded?.exports as DecodeMessages | undefined;
  if (!loaded || typeof original !== "function" || typeof lookupCodecByAttributes !== "function") {
    throw new Error(`${DECODE_MESSAGES} is not what it was: the repairs of patches.ts are for kafkajs 2.2.4`);
  }
  const decodeMessages: DecodeMessages = async (decoder) => {
    const size = decoder.readInt32();
    return size <= 0 || !decoder.canReadBytes(size) ? [] : readFetchedBatches(decoder.readBytes(size));
  };
  loaded.exports = decodeMessages;
}

/** The records of a fetch, with whatever codec they are compressed. */
export async function readFetchedBatches(bytes: Buffer): Promise<FetchedRecord[]> {
  if (bytes.length === 0) return [];
  if (bytes[MAGIC_AT] !== 2) throw new Error("the topic has records in a format older than Kafka 0.11");
  return readRecordBatches(bytes, decompressorOf);
}

function decompressorOf(attributes: number) {
  const codec = lookupCodecByAttributes(attributes);
  return codec ? (records: Buffer) => codec.decompress(records) : undefined;
}
