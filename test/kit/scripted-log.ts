// An event log in memory whose bad days are directed by the test: rebalances, dead and expelled consumers, calls that
// fail before or after they took effect, topics deleted and made again. No timers of its own: whatever waits, waits for
// the test, so that a property test's scheduler decides every order.

import { randomUUID } from "node:crypto";
import {
  type AppendRecord,
  AssignmentLostError,
  type Commit,
  LogUnavailableError,
  OffsetOutOfRangeError,
  type OpenLog,
  type Position,
  type ReadOptions,
  type StoredRecord,
} from "#lib/eventlog/log.ts";
import { createScriptedGroups, type Member, type ScriptedGroups } from "./scripted-groups.ts";

export type ScriptedCall = "append" | "read" | "commit" | "committed" | "bounds" | "createTopics" | "trim" | "check";

export interface ScriptedLogOptions {
  /** Of every topic, whatever createTopics is asked for. */
  partitions: number;
  /** Awaited before each call takes effect: the place of a scheduler. */
  before?: (call: ScriptedCall, topic: string) => Promise<void>;
  /** Resolves when `ms` of a read's maxWaitMs are over. Default: when the test calls expireWaits. */
  wait?: (ms: number) => Promise<void>;
  /** Append times, milliseconds. Default: the wall clock. */
  now?: () => number;
  /** Each topic that is made gets an id, as Kafka has it. Default: none. */
  givesTopicIds?: boolean;
}

export interface AppendedRecord extends StoredRecord, Position {
  topic: string;
}

export interface CommitAttempt extends Commit {
  topic: string;
  group: string;
  partition: number;
  /** Number of the `consume` call, from 0. */
  consumer: number;
  accepted: boolean;
}

/** Consumers are named by the number of their `consume` call, from 0. Partitions are those of every group. */
export interface ScriptedLog
  extends OpenLog,
    Pick<ScriptedGroups, "revoke" | "assign" | "rebalance" | "killConsumer" | "expelConsumer" | "owners"> {
  /** What was stored, in order; a wipe does not shorten it. */
  readonly appends: readonly AppendedRecord[];
  /** Accepted and refused, in order; those of killed consumers too. */
  readonly commits: readonly CommitAttempt[];
  /** The next append rejects with `error`; with `landed`, its records are stored all the same. */
  failNextAppend(error: Error, landed?: boolean): void;
  failNextCommit(error: Error, landed?: boolean): void;
  /** The next such call waits, before it takes effect, until the returned function is called. */
  delayNext(call: ScriptedCall): () => void;
  /** Ends the wait of every read that waits now. */
  expireWaits(): void;
  /**
   * As if the topic were deleted and created again: empty, offsets from 0, and no commits unless `keepCommits`. Where topics
   * have ids, what was assigned of the old one reads nothing of the new one, until the next rebalance.
   */
  wipe(topic: string, keepCommits?: boolean): void;
}

interface Partition {
  start: number;
  records: StoredRecord[];
  /** Resolves at the next append or wipe. */
  changed: PromiseWithResolvers<void>;
}

export function createScriptedLog(options: ScriptedLogOptions): ScriptedLog {
  const topics = new Map<string, Partition[]>();
  const committed = new Map<string, Map<number, Commit>>();
  const topicIds = new Map<string, string>();
  const appends: AppendedRecord[] = [];
  const commits: CommitAttempt[] = [];
  const script = createScript(options);
  const groups = createScriptedGroups(options.partitions, makeAssignment);
  let waitsOver = Promise.withResolvers<void>();

  function partitionOf(topic: string, partition: number): Partition {
    const found = topics.get(topic)?.[partition];
    if (!found) throw new LogUnavailableError(`topic ${topic} has no partition ${partition}`);
    return found;
  }

  function commitsOf(topic: string, group: string): Map<number, Commit> {
    const name = JSON.stringify([topic, group]);
    const known = committed.get(name) ?? new Map<number, Commit>();
    committed.set(name, known);
    return known;
  }

  function boundsOf(topic: string, partition: number) {
    const { start, records } = partitionOf(topic, partition);
    return { partition, start, end: start + records.length };
  }

  function store(topic: string, { key, value, traceparent }: AppendRecord): Position {
    const partition = hash(key) % options.partitions;
    const target = partitionOf(topic, partition);
    const last = target.records.at(-1)?.appendTimeMs ?? 0;
    const record: StoredRecord = {
      offset: target.start + target.records.length,
      appendTimeMs: Math.max(last, (options.now ?? Date.now)()),
      key: key.slice(),
      value: value.slice(),
      traceparent,
    };
    target.records.push(record);
    appends.push({ topic, partition, ...record });
    announce(target);
    return { partition, offset: record.offset };
  }

  async function read(topic: string, partition: number, wanted: ReadOptions): Promise<StoredRecord[]> {
    await script.enter("read", topic);
    let expired: Promise<boolean> | undefined;
    for (;;) {
      const { start, records, changed } = partitionOf(topic, partition);
      const end = start + records.length;
      if (wanted.from < start || wanted.from > end) throw outOfRange(topic, partition, wanted.from, start, end);
      if (wanted.from < end) return cut(records, wanted.from - start, wanted);
      if (wanted.maxWaitMs === 0) return [];
      expired ??= (options.wait?.(wanted.maxWaitMs) ?? waitsOver.promise).then(() => true);
      if (await Promise.race([changed.promise.then(() => false), expired])) return [];
    }
  }

  async function commit(member: Member, partition: number, lost: AbortSignal, { offset, metadata }: Commit) {
    const { topic, group } = member.options;
    await script.enter("commit", topic);
    const attempt = { topic, group, partition, consumer: member.number, offset, metadata };
    // Checked where it takes effect: what was sent in time and arrives too late is refused as well.
    const accepted = !member.dead && !lost.aborted;
    const failure = accepted ? script.failures.commit.shift() : undefined;
    commits.push({ ...attempt, accepted: accepted && failure?.landed !== false });
    if (!accepted) throw new AssignmentLostError(`partition ${partition} of ${topic} went to another consumer`);
    if (failure?.landed !== false) commitsOf(topic, group).set(partition, { offset, metadata });
    if (failure) throw failure.error;
  }

  function nameTopic(topic: string): void {
    if (options.givesTopicIds) topicIds.set(topic, randomUUID());
  }

  function makeAssignment(member: Member, partition: number, lost: AbortSignal) {
    const { topic, group } = member.options;
    const topicId = topicIds.get(topic);
    const refuseAnother = () => {
      if (topicIds.get(topic) !== topicId) throw new AssignmentLostError(`topic ${topic} was made again`);
    };
    const fenced = <T>(act: () => Promise<T>) => fence(member, partition, lost, act);
    return {
      topic,
      partition,
      lost,
      committed: () =>
        fenced(async () => {
          await script.enter("committed", topic);
          return commitsOf(topic, group).get(partition);
        }),
      commit: (wanted: Commit) => fenced(() => commit(member, partition, lost, wanted)),
      bounds: () =>
        fenced(async () => {
          await script.enter("bounds", topic);
          return boundsOf(topic, partition);
        }),
      read: (wanted: ReadOptions) =>
        fenced(async () => {
          const records = await read(topic, partition, wanted);
          refuseAnother();
          return records;
        }),
      topicId: () =>
        fenced(async () => {
          refuseAnother();
          return topicId;
        }),
    };
  }

  const log: OpenLog = {
    system: "scripted",
    async append(topic, records, signal) {
      signal?.throwIfAborted();
      await script.enter("append", topic);
      signal?.throwIfAborted();
      const failure = script.failures.append.shift();
      if (failure?.landed === false) throw failure.error;
      const positions = records.map((record) => store(topic, record));
      if (failure) throw failure.error;
      return positions;
    },
    async consume(consumeOptions) {
      partitionOf(consumeOptions.topic, 0);
      await groups.join(consumeOptions);
    },
    tail: read,
    async bounds(topic) {
      await script.enter("bounds", topic);
      return Array.from({ length: options.partitions }, (_, partition) => boundsOf(topic, partition));
    },
    async committed(topic, group) {
      await script.enter("committed", topic);
      return new Map(commitsOf(topic, group));
    },
    async createTopics(specs) {
      await script.enter("createTopics", specs.map(({ topic }) => topic).join());
      const missing = specs.map(({ topic }) => topic).filter((topic) => !topics.has(topic));
      for (const topic of missing) {
        topics.set(topic, Array.from({ length: options.partitions }, emptyPartition));
        nameTopic(topic);
      }
      return missing;
    },
    async trim(topic, partition, before) {
      await script.enter("trim", topic);
      const target = partitionOf(topic, partition);
      const { start, end } = boundsOf(topic, partition);
      if (before > end) throw outOfRange(topic, partition, before, start, end);
      target.records.splice(0, Math.max(0, before - start));
      target.start = Math.max(start, before);
    },
    epoch: () => Promise.resolve(undefined),
    topicId: (topic) => Promise.resolve(topicIds.get(topic)),
    check: () => script.enter("check", ""),
    [Symbol.asyncDispose]() {
      script.close();
      return groups.close();
    },
  };
  return {
    ...log,
    ...groups,
    appends,
    commits,
    failNextAppend: (error, landed = false) => void script.failures.append.push({ error, landed }),
    failNextCommit: (error, landed = false) => void script.failures.commit.push({ error, landed }),
    delayNext: script.delayNext,
    expireWaits() {
      waitsOver.resolve();
      waitsOver = Promise.withResolvers();
    },
    wipe(topic, keepCommits = false) {
      const wiped = topics.get(topic) ?? [];
      topics.set(topic, Array.from({ length: options.partitions }, emptyPartition));
      nameTopic(topic);
      for (const partition of wiped) announce(partition);
      for (const [name, group] of committed) if (!keepCommits && JSON.parse(name)[0] === topic) group.clear();
    },
  };
}

/** What the test has in store for the coming calls. */
function createScript({ before }: ScriptedLogOptions) {
  const delays = new Map<ScriptedCall, Promise<void>[]>();
  let closed = false;
  return {
    failures: {
      append: [] as { error: Error; landed: boolean }[],
      commit: [] as { error: Error; landed: boolean }[],
    },
    close() {
      closed = true;
    },
    delayNext(call: ScriptedCall): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      delays.set(call, [...(delays.get(call) ?? []), promise]);
      return resolve;
    },
    async enter(call: ScriptedCall, topic: string): Promise<void> {
      if (closed) throw new LogUnavailableError("the scripted log is closed");
      await delays.get(call)?.shift();
      await before?.(call, topic);
    },
  };
}

/** A dead consumer's calls never settle: nobody is there to see it. A lost assignment's calls reject at once. */
function fence<T>(member: Member, partition: number, lost: AbortSignal, act: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const refuse = () => {
      if (!member.dead) reject(new AssignmentLostError(`partition ${partition} of ${member.options.topic} is lost`));
    };
    if (lost.aborted || member.dead) return refuse();
    lost.addEventListener("abort", refuse, { once: true });
    act()
      .then(
        (value) => member.dead || resolve(value),
        (error: unknown) => member.dead || reject(error),
      )
      .finally(() => lost.removeEventListener("abort", refuse));
  });
}

function cut(records: readonly StoredRecord[], first: number, { maxRecords, maxBytes }: ReadOptions): StoredRecord[] {
  const taken: StoredRecord[] = [];
  let bytes = 0;
  for (const record of records.slice(first, first + maxRecords)) {
    bytes += record.key.byteLength + record.value.byteLength;
    if (taken.length > 0 && bytes > maxBytes) break;
    taken.push({ ...record });
  }
  return taken;
}

function emptyPartition(): Partition {
  return { start: 0, records: [], changed: Promise.withResolvers() };
}

function announce(partition: Partition): void {
  partition.changed.resolve();
  partition.changed = Promise.withResolvers();
}

function outOfRange(topic: string, partition: number, wanted: number, start: number, end: number) {
  return new OffsetOutOfRangeError(`offset ${wanted} of ${topic}, partition ${partition}: there is ${start} to ${end}`);
}

/** FNV-1a: any hash will do that sends equal keys to one partition. */
function hash(key: Uint8Array): number {
  return key.reduce((sum, byte) => Math.imul(sum ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
}
