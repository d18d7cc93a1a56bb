// Consuming with a group. kafkajs keeps the membership (join, sync, heartbeat); records are fetched by fetcher.ts
// and commits are sent by assignment.ts.
//
// Why no commit of an old assignment can count under a new generation, walked through kafkajs 2.2.4:
// 1. A generation begins in ConsumerGroup.joinAndSync and nowhere else. It is called from Runner.start, from the runner's
//    fetch loop when a heartbeat is refused (REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID), and from
//    recoverFromFetch (stale metadata, changed partitions). patches.ts wraps it, one at a time.
// 2. The wrapper awaits `beforeJoin` before JoinGroup is sent: every assignment is lost, its handler has ended or was
//    given DRAIN_MS for it. The partitions go to nobody else before this member has joined or its session has expired.
//    Heartbeats pause meanwhile, for less than the session timeout.
// 3. After the join, new assignments are made from the member id and generation of that same sync. An old assignment
//    keeps its own: should a handler outlive the drain, its calls reject here, and a commit that was already on its way
//    names the old generation and is refused by the broker (ILLEGAL_GENERATION).
// 4. A process that was frozen, or cut off, knows nothing of a rebalance. The broker removed its member, so its commit is
//    refused (UNKNOWN_MEMBER_ID); reads and commits also check the lease, which ends with the session timeout.
// 5. A commit without an answer ends the session, and so does a broken connection. The next session joins over new
//    connections under the same member id, so that nobody waits for the old session to expire. Each join that succeeds
//    changes the subscription of the next one: to an unchanged member the coordinator may answer with the generation it
//    has, in which a commit that is still on its way would count.

import { setTimeout } from "node:timers/promises";
import type kafkajs from "kafkajs";
import type { Logger } from "#lib/process/log.ts";
import { AssignmentLostError, type ConsumeOptions } from "../log.ts";
import { createAssignment, type HeldAssignment } from "./assignment.ts";
import {
  createKafkaClient,
  isConnectionError,
  type KafkaClient,
  type KafkaConnection,
  unavailable,
  withTimeout,
} from "./client.ts";
import { createFetcher, type Fetcher } from "./fetcher.ts";
import { createMember, sayGoodbye } from "./member.ts";
import { type MemberIdentity, type Membership, onGroupJoins } from "./patches.ts";
import { isWithoutTopic } from "./refusals.ts";

const REQUEST_TIMEOUT_MS = 5_000;
/** How long handlers may take to end after `lost`; at most half a session, since heartbeats rest. */
const DRAIN_MS = 3_000;
const DISCONNECT_MS = 3_000;
/** Fetching that brings nothing for this long is given a new connection. */
const STALLED_MS = 20_000;
const BACKOFF_MS_MIN = 100;
/** Well below a session: who comes back in time keeps its place in the group. */
const BACKOFF_MS_MAX = 500;

/** Consumes until `options.signal` fires or a handler fails for a reason of its own. */
export async function consumeGroup(
  connection: KafkaConnection,
  sessionTimeoutMs: number,
  options: ConsumeOptions,
): Promise<void> {
  const identity: MemberIdentity = { memberId: undefined, joins: 0 };
  try {
    await consumeAs(identity, connection, sessionTimeoutMs, options);
  } finally {
    await sayGoodbye(identity, connection, options);
  }
}

async function consumeAs(
  identity: MemberIdentity,
  connection: KafkaConnection,
  sessionTimeoutMs: number,
  options: ConsumeOptions,
): Promise<void> {
  const { logger } = connection;
  const { topic, group, signal } = options;
  const needs = `Read on topic ${topic} and Read on group ${group}`;
  let failures = 0;
  while (!signal.aborted) {
    const outcome = await new Session(identity, connection, sessionTimeoutMs, options).run();
    if (outcome.kind === "stopped") return;
    if (outcome.kind === "fatal") throw outcome.error;
    failures = outcome.joined ? 1 : failures + 1;
    // Once per episode: a broker that is away for an hour is one fact, not seven hundred.
    if (failures === 1) {
      logger.warn(
        { topic, group, err: unavailable(connection, "keep the consumer", needs, outcome.error) },
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

interface Handler {
  held: HeldAssignment;
  ended: Promise<void>;
}

/** One membership of the group, from connecting to disconnecting. Whatever goes wrong ends it, and another one follows. */
class Session {
  readonly #identity: MemberIdentity;
  readonly #options: ConsumeOptions;
  readonly #logger: Logger;
  readonly #sessionTimeoutMs: number;
  readonly #client: KafkaClient;
  readonly #consumer: kafkajs.Consumer;
  readonly #fetcher: Fetcher;
  readonly #outcome = Promise.withResolvers<Outcome>();
  readonly #handlers = new Map<number, Handler>();
  #joining: Promise<void> | undefined;
  #joined = false;
  #ended = false;
  /** Since when the broker counts this member's silence; undefined while it waits for a join instead. */
  #contactAt: number | undefined;
  #fencedAt: number | undefined;

  constructor(
    identity: MemberIdentity,
    connection: KafkaConnection,
    sessionTimeoutMs: number,
    options: ConsumeOptions,
  ) {
    this.#identity = identity;
    this.#options = options;
    this.#logger = connection.logger.child({ topic: options.topic, group: options.group });
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.#client = createKafkaClient(connection, REQUEST_TIMEOUT_MS);
    const { consumer, cluster } = createMember(this.#client, identity, options.group, sessionTimeoutMs);
    this.#consumer = consumer;
    const onFailure = (error: unknown, sinceMs: number) => {
      this.#logger.debug({ err: error }, "a fetch failed");
      if (sinceMs > STALLED_MS) this.#abandon(new Error("fetching has stopped", { cause: error }));
      if (mayHideAnotherLog(error)) this.#abandon(new Error("the topic was away for a moment", { cause: error }));
    };
    this.#fetcher = createFetcher(cluster, { onFailure, rack: connection.rack });
    onGroupJoins(cluster, {
      identity,
      beforeJoin: () => {
        this.#contactAt = undefined;
        return this.#revokeAll(new Error("the group is rebalancing"));
      },
      joined: (membership) => this.#assign(membership),
    });
    consumer.on(consumer.events.HEARTBEAT, () => {
      this.#contactAt = performance.now();
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => this.#fail(payload.error));
  }

  /** Joins, serves assignments until something ends it, and can send nothing more when it resolves. */
  async run(): Promise<Outcome> {
    const { signal } = this.#options;
    const stop = () => this.#outcome.resolve({ kind: "stopped" });
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    const watchdog = setInterval(() => this.#watch(), 500);
    this.#joining = this.#join().catch((error: unknown) => this.#fail(error));
    const outcome = await this.#outcome.promise;
    clearInterval(watchdog);
    signal.removeEventListener("abort", stop);
    await this.#end();
    return outcome;
  }

  async #join(): Promise<void> {
    await this.#consumer.connect();
    await this.#consumer.subscribe({ topics: [this.#options.topic] });
    await this.#consumer.run({ autoCommit: false, eachBatch: async () => undefined });
  }

  #fail(error: unknown): void {
    this.#outcome.resolve({ kind: "failed", error, joined: this.#joined });
  }

  #leaseHolds(): boolean {
    return this.#contactAt !== undefined && performance.now() - this.#contactAt < this.#sessionTimeoutMs;
  }

  #watch(): void {
    if (this.#contactAt !== undefined && !this.#leaseHolds()) {
      this.#abandon(new Error(`no heartbeat was answered for ${this.#sessionTimeoutMs} ms`));
    }
    const fencedMs = performance.now() - (this.#fencedAt ?? performance.now());
    if (fencedMs > STALLED_MS) this.#fail(new Error(`fenced ${Math.round(fencedMs)} ms ago and not rejoined since`));
  }

  #loseAll(reason: Error): void {
    for (const { held } of this.#handlers.values()) held.lose(reason);
  }

  #fenced(reason: Error): void {
    this.#fencedAt ??= performance.now();
    this.#loseAll(reason);
  }

  #abandon(reason: Error): void {
    this.#loseAll(reason);
    this.#fail(reason);
  }

  async #revokeAll(reason: Error): Promise<void> {
    this.#loseAll(reason);
    const late = () => new Error(`handlers have not ended after ${DRAIN_MS} ms`);
    const drained = Promise.all([...this.#handlers.values()].map((handler) => handler.ended));
    try {
      await withTimeout(drained, Math.min(DRAIN_MS, this.#sessionTimeoutMs / 2), late);
    } catch (err) {
      this.#logger.warn({ err }, "a partition was released while its handler still runs; it can commit nothing");
    }
  }

  #assign(membership: Membership): void {
    this.#contactAt = performance.now();
    this.#fencedAt = undefined;
    this.#joined = true;
    if (this.#ended) return;
    const { topic, group } = this.#options;
    const partitions = membership.assigned.get(topic) ?? [];
    this.#logger.info({ generation: membership.generationId, partitions }, "partitions assigned");
    for (const partition of partitions) {
      const held = createAssignment(topic, partition, {
        group,
        membership,
        feed: this.#fetcher.open(topic, partition),
        leaseHolds: () => this.#leaseHolds(),
        fenced: (reason) => this.#fenced(reason),
        abandon: (reason) => this.#abandon(reason),
      });
      const previous = this.#handlers.get(partition)?.ended;
      this.#handlers.set(partition, { held, ended: this.#handle(held, previous) });
    }
  }

  async #handle(held: HeldAssignment, previous: Promise<void> | undefined): Promise<void> {
    await previous; // One handler a partition at a time, even when the one before outlived its drain.
    if (held.assignment.lost.aborted) return;
    try {
      await this.#options.onAssigned(held.assignment);
    } catch (error) {
      if (!(error instanceof AssignmentLostError)) this.#outcome.resolve({ kind: "fatal", error });
    }
  }

  async #end(): Promise<void> {
    this.#ended = true;
    await this.#revokeAll(new Error("the membership has ended"));
    this.#fetcher.close();
    const late = () => new Error(`not done within ${DISCONNECT_MS} ms`);
    try {
      // A member that is known to the coordinator and not to itself cannot leave: it would have to expire.
      if (this.#identity.memberId === undefined)
        await withTimeout(this.#joining ?? Promise.resolve(), DISCONNECT_MS, late);
      this.#client.kill();
      await withTimeout(this.#consumer.disconnect(), DISCONNECT_MS, late);
    } catch (err) {
      this.#logger.debug({ err }, "kafkajs has not come to rest");
    }
    this.#client.kill();
  }
}

/**
 * The topic, or the way to it, was gone: what answers at the same offsets afterwards may be another log, refilled. Only a
 * new assignment asks whether it is. A leader that merely moved has the same log.
 */
function mayHideAnotherLog(error: unknown): boolean {
  return isWithoutTopic(error) || isConnectionError(error);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await setTimeout(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error; // An abort merely ends the pause; the caller looks at the signal.
  }
}
