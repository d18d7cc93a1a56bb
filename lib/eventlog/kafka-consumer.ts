// Consuming with a group. kafkajs keeps the membership (join, sync, heartbeat); records are fetched by kafka-fetcher.ts
// and commits are sent by kafka-assignment.ts.
//
// Why no commit of an old assignment can count under a new generation, walked through kafkajs 2.2.4:
// 1. A generation begins in ConsumerGroup.joinAndSync and nowhere else. It is called from Runner.start, from the runner's
//    fetch loop when a heartbeat is refused (REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID), and from
//    recoverFromFetch (stale metadata, changed partitions). kafka-patches.ts wraps it, one at a time.
// 2. The wrapper awaits `beforeJoin` before JoinGroup is sent: every assignment is lost, its handler has ended or was
//    given DRAIN_MS for it. The partitions go to nobody else before this member has joined or its session has expired.
//    Heartbeats pause meanwhile, for less than the session timeout.
// 3. After the join, new assignments are made from the member id and generation of that same sync. An old assignment
//    keeps its own: should a handler outlive the drain, its calls reject here, and a commit that was already on its way
//    names the old generation and is refused by the broker (ILLEGAL_GENERATION).
// 4. A process that was frozen, or cut off, knows nothing of a rebalance. The broker removed its member, so its commit is
//    refused (UNKNOWN_MEMBER_ID); reads and commits also check the lease, which ends with the session timeout.
// 5. A commit without an answer ends the session: leave, or expire, then join anew, hence a new generation for all.

import { setTimeout } from "node:timers/promises";
import kafkajs from "kafkajs";
import { createAssignment, type HeldAssignment } from "./kafka-assignment.ts";
import { createKafkaClient, type KafkaConnection, unavailable, withTimeout } from "./kafka-client.ts";
import { createFetcher, type Fetcher } from "./kafka-fetcher.ts";
import { type Membership, onGroupJoins } from "./kafka-patches.ts";
import { AssignmentLostError, type ConsumeOptions } from "./log.ts";

const REQUEST_TIMEOUT_MS = 5_000;
/** How long handlers may take to end after `lost`; at most half a session, since heartbeats rest. */
const DRAIN_MS = 3_000;
const DISCONNECT_MS = 3_000;
/** How long the other members wait for one that is draining. */
const REBALANCE_TIMEOUT_MS = 15_000;
/** Fetching that brings nothing for this long is given a new connection. */
const STALLED_MS = 20_000;
const BACKOFF_MS_MIN = 250;
const BACKOFF_MS_MAX = 5_000;

/** Consumes until `options.signal` fires or a handler fails for a reason of its own. */
export async function consumeGroup(
  connection: KafkaConnection,
  sessionTimeoutMs: number,
  options: ConsumeOptions,
): Promise<void> {
  const { logger } = connection;
  const { topic, group, signal } = options;
  let failures = 0;
  while (!signal.aborted) {
    const session = createSession(connection, sessionTimeoutMs, options);
    const outcome = await session.run();
    if (outcome.kind === "stopped") return;
    if (outcome.kind === "fatal") throw outcome.error;
    failures = outcome.joined ? 1 : failures + 1;
    // Once per episode: a broker that is away for an hour is one fact, not seven hundred.
    if (failures === 1) {
      logger.warn(
        { topic, group, err: unavailable(connection, "keep the consumer", outcome.error) },
        "consumer rejoins",
      );
    }
    await pause(Math.min(BACKOFF_MS_MIN * 2 ** (failures - 1), BACKOFF_MS_MAX), signal);
  }
}

type Outcome =
  | { kind: "stopped" }
  | { kind: "fatal"; error: unknown }
  | { kind: "failed"; error: unknown; joined: boolean };

interface Session {
  /** Joins, serves assignments until something ends it, and has left and disconnected when it resolves. */
  run(): Promise<Outcome>;
}

interface Handler {
  held: HeldAssignment;
  ended: Promise<void>;
}

function createSession(connection: KafkaConnection, sessionTimeoutMs: number, options: ConsumeOptions): Session {
  const { topic, group, signal } = options;
  const { logger } = connection;
  const client = createKafkaClient(connection, REQUEST_TIMEOUT_MS);
  const { promise: ending, resolve: end } = Promise.withResolvers<Outcome>();
  const handlers = new Map<number, Handler>();
  let fetcher: Fetcher | undefined;
  let joining: Promise<void> | undefined;
  let joined = false;
  let ended = false;
  let contactAt = performance.now();
  let fencedAt: number | undefined;

  let cluster: kafkajs.Cluster | undefined;
  const consumer = client.kafka.consumer({
    groupId: group,
    sessionTimeout: sessionTimeoutMs,
    rebalanceTimeout: Math.max(REBALANCE_TIMEOUT_MS, 2 * sessionTimeoutMs),
    heartbeatInterval: Math.min(Math.floor(sessionTimeoutMs / 4), 1_500),
    maxWaitTimeInMs: 250, // Everything is paused, so this is merely the pace of kafkajs's idle loop.
    metadataMaxAge: 30_000,
    allowAutoTopicCreation: false,
    readUncommitted: true,
    // Restarting is the outer loop's, which also makes new connections.
    retry: { retries: 4, initialRetryTime: 100, maxRetryTime: 1_000, restartOnFailure: async () => false },
    partitionAssigners: [
      (context) => {
        cluster = context.cluster;
        return kafkajs.PartitionAssigners.roundRobin(context);
      },
    ],
  });

  const leaseHolds = (): boolean => performance.now() - contactAt < sessionTimeoutMs;
  const fail = (error: unknown): void => end({ kind: "failed", error, joined });

  function fenced(reason: Error): void {
    fencedAt ??= performance.now();
    for (const { held } of handlers.values()) held.lose(reason);
  }

  function abandon(reason: Error): void {
    for (const { held } of handlers.values()) held.lose(reason);
    fail(reason);
  }

  async function revokeAll(reason: Error): Promise<void> {
    const current = [...handlers.values()];
    for (const { held } of current) held.lose(reason);
    const late = () => new Error(`handlers have not ended after ${DRAIN_MS} ms`);
    const drained = Promise.all(current.map((handler) => handler.ended));
    try {
      await withTimeout(drained, Math.min(DRAIN_MS, sessionTimeoutMs / 2), late);
    } catch (err) {
      logger.warn({ topic, group, err }, "a partition is let go while its handler still runs; it can commit nothing");
    }
  }

  function assign(membership: Membership): void {
    contactAt = performance.now();
    fencedAt = undefined;
    joined = true;
    if (ended || cluster === undefined) return;
    const partitions = membership.assigned.get(topic) ?? [];
    logger.info({ topic, group, generation: membership.generationId, partitions }, "partitions assigned");
    for (const partition of partitions) {
      const previous = handlers.get(partition)?.ended;
      const feed = (fetcher as Fetcher).open(topic, partition);
      const held = createAssignment(topic, partition, { group, membership, feed, leaseHolds, fenced, abandon });
      handlers.set(partition, { held, ended: handle(held, previous) });
    }
  }

  async function handle(held: HeldAssignment, previous: Promise<void> | undefined): Promise<void> {
    await previous; // One handler a partition at a time, even when the one before outlived its drain.
    if (held.assignment.lost.aborted) return;
    try {
      await options.onAssigned(held.assignment);
    } catch (error) {
      if (!(error instanceof AssignmentLostError)) end({ kind: "fatal", error });
    }
  }

  async function join(running: kafkajs.Cluster): Promise<void> {
    fetcher = createFetcher(running, {
      onFailure(error, sinceMs) {
        logger.debug({ topic, group, err: error }, "a fetch failed");
        if (sinceMs > STALLED_MS) abandon(new Error("fetching stands still", { cause: error }));
      },
    });
    onGroupJoins(running, {
      beforeJoin: () => revokeAll(new Error("the group is rebalancing")),
      joined: assign,
    });
    consumer.on(consumer.events.HEARTBEAT, () => {
      contactAt = performance.now();
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => fail(payload.error));
    await consumer.connect();
    await consumer.subscribe({ topics: [topic] });
    await consumer.run({ autoCommit: false, eachBatch: async () => undefined });
  }

  /** A join under way is waited for: a member that leaves before it knows its id stays until its session expires. */
  async function sayGoodbye(): Promise<void> {
    await joining;
    await consumer.disconnect();
  }

  async function leave(): Promise<void> {
    ended = true;
    await revokeAll(new Error("the consumer leaves the group"));
    fetcher?.close();
    const late = () => new Error(`no answer within ${DISCONNECT_MS} ms`);
    try {
      await withTimeout(sayGoodbye(), DISCONNECT_MS, late);
    } catch (err) {
      logger.debug({ topic, group, err }, "left the group without a goodbye; its session will expire");
    }
    client.kill();
  }

  return {
    async run() {
      const stop = () => end({ kind: "stopped" });
      signal.addEventListener("abort", stop, { once: true });
      if (signal.aborted) stop();
      const lease = setInterval(() => {
        if (joined && !leaseHolds()) abandon(new Error(`no heartbeat was answered for ${sessionTimeoutMs} ms`));
        const fencedMs = performance.now() - (fencedAt ?? performance.now());
        if (fencedMs > STALLED_MS) fail(new Error(`fenced ${fencedMs} ms ago and not rejoined since`));
      }, 500);
      try {
        if (cluster === undefined) throw new Error("kafkajs made a consumer without asking for its assigner");
        joining = join(cluster).catch(fail);
        return await ending;
      } finally {
        clearInterval(lease);
        signal.removeEventListener("abort", stop);
        await leave();
      }
    },
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await setTimeout(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error; // An abort merely ends the pause; the caller looks at the signal.
  }
}
