// One partition as this process holds it. The fence between the holder of a partition and the holder before it is the
// broker's: every commit carries the member and generation under which the assignment was given, captured once. kafkajs's
// own commitOffsets is not used. It takes the generation of the moment, so after a rejoin it commits an old batch under
// the new generation, and it resolves without having sent anything once its runner has stopped.

import type { Broker } from "kafkajs";
import { type Assignment, AssignmentLostError, type Commit, type ReadOptions } from "../log.ts";
import type { Feed } from "./fetcher.ts";
import type { Membership } from "./patches.ts";
import { protocolErrorOf } from "./refusals.ts";

/** The broker has said, or would say, that this member no longer holds its partitions. */
const FENCED = new Set(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID"]);
/** Refused for sure and for now: the same commit may be sent again. */
const BUSY = new Set(["GROUP_LOAD_IN_PROGRESS", "UNSTABLE_OFFSET_COMMIT"]);
/** Refused for sure and for good: the caller's mistake. */
const INVALID = new Set(["OFFSET_METADATA_TOO_LARGE", "INVALID_COMMIT_OFFSET_SIZE"]);
const RETRY_AFTER_MS = 200;

export interface AssignmentDeps {
  group: string;
  membership: Membership;
  feed: Feed;
  /** False once this member has been silent for so long that the broker may have given its partitions away. */
  leaseHolds(): boolean;
  /** The broker refuses this generation: revokes all assignments; kafkajs's next heartbeat finds out and rejoins. */
  fenced(reason: Error): void;
  /** Revokes all assignments of this member and joins again, which makes the broker refuse whatever was under way. */
  abandon(reason: Error): void;
}

/** An assignment and the switch that ends it. */
export interface HeldAssignment {
  readonly assignment: Assignment;
  lose(reason: Error): void;
}

export function createAssignment(topic: string, partition: number, deps: AssignmentDeps): HeldAssignment {
  const life = new AbortController();
  const { feed } = deps;
  const lose = (reason: Error): void => {
    if (life.signal.aborted) return;
    life.abort(lost(topic, partition, reason));
    feed.close();
  };
  const alive = (): void => {
    life.signal.throwIfAborted(); // First: while a rebalance takes the partitions away there is no lease to miss.
    if (!deps.leaseHolds()) deps.abandon(new Error("no heartbeat was answered within the session timeout"));
    life.signal.throwIfAborted();
  };

  /** Runs `work` until it succeeds, as long as the assignment lives: the brokers being away is no reason to give up. */
  async function persist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      alive();
      try {
        const result = await work();
        alive();
        return result;
      } catch (error) {
        alive();
        if (FENCED.has(protocolErrorOf(error) ?? "")) deps.fenced(error as Error);
        alive();
        await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS));
      }
    }
  }

  const assignment: Assignment = {
    topic,
    partition,
    lost: life.signal,
    committed: () => persist(() => fetchCommit(deps.membership.coordinator, deps.group, topic, partition)),
    bounds: () => persist(() => feed.bounds()),
    async topicId() {
      const { read, now } = await persist(() => feed.topicIds());
      // A broker that gives no ids, beside others that do, does not say that it is another one.
      if (now !== undefined && read !== now) deps.abandon(new Error("the topic was deleted and made again"));
      alive();
      return read;
    },
    async commit(commit) {
      for (;;) {
        alive();
        try {
          await sendCommit(deps, topic, partition, commit);
        } catch (error) {
          const refusal = protocolErrorOf(error) ?? "";
          alive();
          if (INVALID.has(refusal)) throw error;
          if (BUSY.has(refusal)) {
            await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS));
            continue;
          }
          if (FENCED.has(refusal)) deps.fenced(error as Error);
          // Nobody knows. A request without an answer may still be waiting in a socket and arrive after a later commit,
          // which would move the group backwards. A new generation makes the broker refuse it.
          else deps.abandon(error as Error);
          throw lost(topic, partition, error as Error);
        }
        // Taken by the broker, yet of no use to a holder that has lost the partition meanwhile.
        alive();
        return;
      }
    },
    async read(options: ReadOptions) {
      alive();
      const records = await feed.read(options, life.signal);
      alive();
      return records;
    },
  };
  return { assignment, lose };
}

async function sendCommit(deps: AssignmentDeps, topic: string, partition: number, commit: Commit): Promise<void> {
  const { memberId, generationId, coordinator } = deps.membership;
  const entry = { partition, offset: String(commit.offset), metadata: commit.metadata };
  // Resolves only when the broker answered without an error for this partition.
  await coordinator.offsetCommit({
    groupId: deps.group,
    memberId,
    groupGenerationId: generationId,
    topics: [{ topic, partitions: [entry] }],
  });
}

async function fetchCommit(
  coordinator: Broker,
  groupId: string,
  topic: string,
  partition: number,
): Promise<Commit | undefined> {
  const topics = [{ topic, partitions: [{ partition }] }] as Parameters<Broker["offsetFetch"]>[0]["topics"];
  const { responses } = await coordinator.offsetFetch({ groupId, topics });
  const found = responses[0]?.partitions[0] as { offset: string; metadata?: string | null } | undefined;
  if (found === undefined || Number(found.offset) < 0) return undefined;
  return { offset: Number(found.offset), metadata: found.metadata ?? "" };
}

function lost(topic: string, partition: number, cause: Error): AssignmentLostError {
  if (cause instanceof AssignmentLostError) return cause;
  return new AssignmentLostError(`${topic}[${partition}] is no longer assigned to this process`, { cause });
}
