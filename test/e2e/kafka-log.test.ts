// The Kafka adapter against a real broker, including what a broker, a group and a process can do to it.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAssignment } from "#lib/eventlog/kafka/assignment.ts";
import { createKafkaClient, openCluster } from "#lib/eventlog/kafka/client.ts";
import { createKafkaLog, type KafkaLogOptions } from "#lib/eventlog/kafka/log.ts";
import { createMember } from "#lib/eventlog/kafka/member.ts";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import { type MemberIdentity, type Membership, onGroupJoins } from "#lib/eventlog/kafka/patches.ts";
import {
  AssignmentLostError,
  LogUnavailableError,
  OffsetOutOfRangeError,
  type OpenLog,
  RecordTooLargeError,
  UnfitTopicError,
} from "#lib/eventlog/log.ts";
import { assigned, consuming, untilLost } from "../kit/consuming.ts";
import { describeEventLog } from "../kit/eventlog-contract.ts";
import { appendToOne, everything, keyed, readRange, record, tailing, text } from "../kit/eventlog-reading.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { runKafkaTool } from "../kit/kafka-java.ts";
import { makeAgain } from "../kit/made-again.ts";
import { atMost, patience } from "../kit/patience.ts";
import { startTcpProxy } from "../kit/tcp-proxy.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests();
const skip = kafka.available ? undefined : kafka.reason;
const logger = pino({ level: process.env.LOG_LEVEL ?? "silent" });

let broker: AsyncDisposable & { readonly brokers: string[] };
beforeAll(async () => {
  if (kafka.available) broker = await kafka.start();
});
afterAll(() => broker?.[Symbol.asyncDispose](), patience(30_000));

function openLog(options: Partial<KafkaLogOptions> = {}): OpenLog {
  return createKafkaLog({ brokers: broker.brokers, clientId: "e2e", logger, ...options });
}

async function freshTopic(log: OpenLog, partitions = 3): Promise<string> {
  const topic = `e2e-${randomUUID()}`;
  await log.createTopics([{ topic, partitions }]);
  return topic;
}

/** A consumer that reads whatever it is assigned and commits how far it got, starting at the commit. */
function storing(log: OpenLog, topic: string, read: Map<number, number>): AsyncDisposable {
  const leaving = new AbortController();
  const ended = log.consume({
    topic,
    group: topic,
    async onAssigned(assignment) {
      const { partition } = assignment;
      for (let from = (await assignment.committed())?.offset ?? 0; ; ) {
        const records = await assignment.read({ from, maxRecords: 100, maxBytes: 1e6, maxWaitMs: 1_000 });
        if (records.length === 0) continue;
        from += records.length;
        await assignment.commit({ offset: from, metadata: "" });
        read.set(partition, from);
      }
    },
    signal: leaving.signal,
  });
  return {
    async [Symbol.asyncDispose]() {
      leaving.abort();
      await ended;
    },
  };
}

/** One join of a member that takes what it gets and does nothing with it. */
async function joinAs(identity: MemberIdentity, topic: string) {
  const client = createKafkaClient({ brokers: broker.brokers, clientId: "again", logger }, 5_000);
  const { consumer, cluster } = createMember(client, identity, topic, 6_000);
  const { promise, resolve: joined } = Promise.withResolvers<Membership>();
  onGroupJoins(cluster, { identity, beforeJoin: async () => undefined, joined });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic] });
  await consumer.run({ autoCommit: false, eachBatch: async () => undefined });
  return { client, membership: await promise };
}

/** Resolves when the topic has `count` of them, all with leaders. */
async function addPartitions(topic: string, count: number): Promise<void> {
  const { kafka } = createKafkaClient({ brokers: broker.brokers, clientId: "admin", logger }, 5_000);
  const admin = kafka.admin();
  await admin.connect();
  await admin.createPartitions({ topicPartitions: [{ topic, count }] });
  const isThere = async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return topics[0]?.partitions.filter(({ leader }) => leader >= 0).length === count;
  };
  await until(isThere, `${count} partitions`, patience(20_000));
  await admin.disconnect();
}

/** For an assignment that only commits. */
function unfed(group: string) {
  return {
    group,
    feed: {
      read: async () => [],
      bounds: () => Promise.reject(new Error("unused")),
      topicIds: () => Promise.reject(new Error("unused")),
      close: () => undefined,
    },
    leaseHolds: () => true,
    fenced: () => undefined,
    abandon: () => undefined,
  };
}

async function memberIds(brokers: string[], group: string): Promise<string[]> {
  const client = createKafkaClient({ brokers, clientId: "asker", logger }, 5_000);
  const admin = client.kafka.admin();
  await admin.connect();
  try {
    const { groups } = await admin.describeGroups([group]);
    return groups.flatMap(({ members }) => members.map(({ memberId }) => memberId)).sort();
  } finally {
    client.kill();
  }
}

describeEventLog(
  "Kafka",
  async () => {
    const log = openLog();
    return { log, partitions: 3, [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
  },
  skip === undefined ? {} : { skip },
);

describe.skipIf(skip !== undefined)("Kafka: appending", () => {
  it("a record sent again after partitions were added comes to the partition it had before", async () => {
    await using log = openLog({ partitions: 3 });
    const topic = await freshTopic(log, 3);
    const before = await log.append(topic, keyed(40));
    await addPartitions(topic, 5);
    await using again = openLog({ partitions: 3 });
    const after = await again.append(topic, keyed(40));
    expect(after.map(({ partition }) => partition)).toEqual(before.map(({ partition }) => partition));
    const ends = (await log.bounds(topic)).map(({ end }) => end);
    expect(ends).toHaveLength(5);
    expect(ends.slice(3)).toEqual([0, 0]);
    await using all = openLog();
    const spread = await all.append(topic, keyed(40));
    expect(new Set(spread.map(({ partition }) => partition)).size).toBe(5);
  });

  it.each(["none", "gzip", "snappy", "lz4", "zstd"] as const)("what is appended with %s can be read", async (name) => {
    await using log = openLog({ compression: name });
    const topic = await freshTopic(log);
    const records = Array.from({ length: 600 }, (_, i) => record(`key-${i % 50}`, `${i} `.repeat(1 + (i % 300))));
    const positions = await log.append(topic, records);
    const found = await everything(log, topic);
    expect(found).toHaveLength(600);
    const byPosition = new Map(found.map(({ partition, stored }) => [`${partition}@${stored.offset}`, stored]));
    for (const [i, { partition, offset }] of positions.entries()) {
      expect(partition).toBe(partitionOf(records[i]?.key as Uint8Array, 3));
      expect(text(byPosition.get(`${partition}@${offset}`)?.value)).toBe(text(records[i]?.value));
    }
  });

  it("more than one broker batch holds goes in several, in order and acknowledged at the right offsets", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    const records = Array.from({ length: 3_000 }, (_, i) => record("one", `${i}`.padEnd(1_000)));
    const positions = await log.append(topic, records);
    expect(positions.map(({ offset }) => offset)).toEqual(records.map((_, i) => i));
    const found = await readRange(tailing(log, topic, 0), 0, 3_000);
    expect(found.map(({ value }) => Number(text(value)))).toEqual(records.map((_, i) => i));
  });

  it("a record that is too large is refused as such, and the next append works", async () => {
    await using log = openLog();
    const topic = await freshTopic(log);
    await expect(log.append(topic, [record("k", "x".repeat(1_100_000))])).rejects.toBeInstanceOf(RecordTooLargeError);
    expect(await log.append(topic, [record("k", "small")])).toHaveLength(1);
    expect(await everything(log, topic)).toHaveLength(1);
  });

  it("a missing topic is refused soon, with the remedy", async () => {
    await using log = openLog();
    const refused = log.append("no-such-topic", [record("k", "v")]);
    await expect(refused).rejects.toThrow(/millrace migrate/);
    await expect(refused).rejects.toBeInstanceOf(LogUnavailableError);
  });

  it("brokers that are not there are named within the timeout, and close does not hang", async () => {
    const log = openLog({ brokers: ["127.0.0.1:1"], appendTimeoutMs: 1_000 });
    const startedAt = performance.now();
    await expect(log.append("t", [record("k", "v")])).rejects.toThrow(/127\.0\.0\.1:1 .*KAFKA_BROKERS/);
    expect(performance.now() - startedAt).toBeLessThan(atMost(2_000));
    await expect(log.check()).rejects.toBeInstanceOf(LogUnavailableError);
    await log[Symbol.asyncDispose]();
    expect(performance.now() - startedAt).toBeLessThan(atMost(5_000));
  });
});

const noTools = kafka.available && kafka.kind !== "apache";
describe.skipIf(skip !== undefined || noTools)("Kafka: beside Java clients", () => {
  const keys = Array.from({ length: 60 }, (_, i) => `key-${i}`);

  it.each(["gzip", "snappy", "lz4", "zstd"] as const)("both read what the other wrote with %s", async (name) => {
    await using log = openLog({ compression: name });
    const topic = await freshTopic(log);
    const lines = keys.map((key) => `${key}:java ${key} ${"x".repeat(200)}`);
    const to = ["--bootstrap-server", broker.brokers.join(","), "--topic", topic];
    const producer = ["--compression-codec", name, "--property", "parse.key=true", "--property", "key.separator=:"];
    runKafkaTool("org.apache.kafka.tools.ConsoleProducer", [...to, ...producer], `${lines.join("\n")}\n`);
    const found = await everything(log, topic);
    expect(found.map(({ stored }) => `${text(stored.key)}:${text(stored.value)}`).sort()).toEqual([...lines].sort());
    for (const { partition, stored } of found) expect(partition).toBe(partitionOf(stored.key, 3));

    const ours = keys.map((key) => `ours ${key} ${"y".repeat(3_000)}`);
    await log.append(
      topic,
      keys.map((key, i) => record(key, ours[i] ?? "")),
    );
    const consumer = ["--from-beginning", "--max-messages", "120", "--timeout-ms", "20000"];
    const printed = runKafkaTool("org.apache.kafka.tools.consumer.ConsoleConsumer", [...to, ...consumer]);
    expect(
      printed
        .split("\n")
        .filter((line) => line.startsWith("ours"))
        .sort(),
    ).toEqual([...ours].sort());
  });
});

describe.skipIf(skip !== undefined)("Kafka: groups", () => {
  it("two consumers share the partitions, and one gets all of them back when the other leaves", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 4);
    await log.append(topic, keyed(40));
    const alive = (consumer: ReturnType<typeof consuming>) =>
      consumer.assignments.filter(({ lost }) => !lost.aborted).map(({ partition }) => partition);
    await using first = consuming(log, topic, topic);
    const before = await Promise.all([0, 1, 2, 3].map((partition) => assigned(first, partition)));
    await before[0]?.commit({ offset: 3, metadata: '{"to":7}' });
    const second = consuming(log, topic, topic);
    await Promise.all(before.map(untilLost));
    for (const old of before) {
      await expect(old.commit({ offset: 9, metadata: "" })).rejects.toBeInstanceOf(AssignmentLostError);
    }
    await expect.poll(() => [...alive(first), ...alive(second)].sort(), { timeout: 30_000 }).toEqual([0, 1, 2, 3]);
    expect(alive(first)).toHaveLength(2);
    expect(await log.committed(topic, topic)).toEqual(new Map([[0, { offset: 3, metadata: '{"to":7}' }]]));
    await second[Symbol.asyncDispose]();
    await expect.poll(() => alive(first).sort(), { timeout: 30_000 }).toEqual([0, 1, 2, 3]);
  });

  it("a handler that ends after its assignment is lost has ended before another process is assigned", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    const order: string[] = [];
    const leaving = new AbortController();
    const held = Promise.withResolvers<void>();
    const first = log.consume({
      topic,
      group: topic,
      signal: leaving.signal,
      async onAssigned(assignment) {
        held.resolve();
        await untilLost(assignment);
        await log.append(topic, [record("k", "the last of the first")]);
        order.push("first ended");
      },
    });
    await held.promise;
    const second = log.consume({
      topic,
      group: topic,
      signal: leaving.signal,
      async onAssigned(assignment) {
        order.push("second assigned");
        leaving.abort();
        await untilLost(assignment);
      },
    });
    // Whichever of the two gets the single partition next, the first holder must have ended before.
    await expect.poll(() => order.length, { timeout: 30_000 }).toBeGreaterThan(0);
    expect(order[0]).toBe("first ended");
    leaving.abort();
    await Promise.all([first, second]);
  });

  it("a frozen process cannot commit after its session has expired", async () => {
    await using log = openLog({ sessionTimeoutMs: 2_000 });
    const topic = await freshTopic(log, 1);
    await appendToOne(log, topic, 5);
    const script = fileURLToPath(new URL("../kit/kafka-zombie.ts", import.meta.url));
    const zombie = spawn(process.execPath, [script, broker.brokers.join(","), topic, topic, "2000"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const lines = createInterface({ input: zombie.stdout })[Symbol.asyncIterator]();
      expect((await lines.next()).value).toBe("assigned");
      zombie.stdin.write("commit\n");
      expect((await lines.next()).value).toBe("committed");
      zombie.kill("SIGSTOP");
      await using heir = consuming(log, topic, topic);
      const assignment = await assigned(heir, 0);
      expect(await assignment.committed()).toEqual({ offset: 1, metadata: "zombie" });
      await assignment.commit({ offset: 4, metadata: "heir" });
      zombie.stdin.write("commit\n");
      zombie.kill("SIGCONT");
      expect((await lines.next()).value).toBe("AssignmentLostError");
      expect(await log.committed(topic, topic)).toEqual(new Map([[0, { offset: 4, metadata: "heir" }]]));
    } finally {
      zombie.kill("SIGKILL");
    }
  });

  it("the broker itself refuses a commit of a member or generation that is not the group's", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    await using consumer = consuming(log, topic, topic);
    await assigned(consumer, 0);
    const client = createKafkaClient({ brokers: broker.brokers, clientId: "stranger", logger }, 5_000);
    try {
      const cluster = openCluster(client);
      await cluster.connect();
      await cluster.refreshMetadata();
      const coordinator = await cluster.findGroupCoordinator({ groupId: topic });
      const calls: string[] = [];
      const { assignment } = createAssignment(topic, 0, {
        ...unfed(topic),
        membership: { memberId: "stranger", generationId: 1, coordinator, assigned: new Map() },
        fenced: () => calls.push("fenced"),
        abandon: () => calls.push("abandon"),
      });
      await expect(assignment.commit({ offset: 1, metadata: "" })).rejects.toBeInstanceOf(AssignmentLostError);
      expect(calls).toEqual(["fenced"]);
      expect(await log.committed(topic, topic)).toEqual(new Map());
    } finally {
      client.kill();
    }
  });

  it.skipIf(kafka.available && kafka.kind === "environment")(
    "members whose connections are reset again and again are back within 3 s, as who they were",
    async () => {
      if (!kafka.available || kafka.kind === "environment") throw new Error("a shared broker cannot be behind a proxy");
      await using stack = new AsyncDisposableStack();
      // A broker of its own: the Java tools of other tests block this process, in which the proxy runs.
      let port = 0;
      const link = stack.use(await startTcpProxy({ targetPort: () => port }));
      const behind = stack.use(await kafka.start({ advertisedPort: link.port }));
      port = Number(behind.brokers[0]?.split(":")[1]);
      const brokers = [`127.0.0.1:${link.port}`];
      const [log, ...others] = [openLog({ brokers }), openLog({ brokers }), openLog({ brokers })];
      for (const one of [log, ...others]) stack.use(one);
      const topic = await freshTopic(log, 6);
      const keys = Array.from({ length: 60 }, (_, i) => `key-${i}`);
      /** By partition: offset up to which it was read and committed. */
      const read = new Map<number, number>();
      const members = [log, ...others].map((one) => stack.use(storing(one, topic, read)));
      const appended = async () => {
        await log.append(
          topic,
          keys.map((key) => record(key, "")),
        );
        return new Map((await log.bounds(topic)).map(({ partition, end }) => [partition, end]));
      };
      const first = await appended();
      await expect.poll(() => read, { timeout: 30_000 }).toEqual(first);
      const before = await memberIds(behind.brokers, topic);
      expect(before).toHaveLength(3);

      let resets = 0;
      for (let i = 0; i < 8; i++) {
        resets += link.resetAll();
        await new Promise((resolve) => setTimeout(resolve, 150)); // The rhythm is the fault.
      }
      expect(resets).toBeGreaterThan(6);
      const resetAt = performance.now();
      const second = await appended();
      await expect.poll(() => read, { timeout: 30_000 }).toEqual(second);
      expect(performance.now() - resetAt).toBeLessThan(atMost(3_000));
      expect(await memberIds(behind.brokers, topic)).toEqual(before);
      expect(new Map([...(await log.committed(topic, topic))].map(([key, { offset }]) => [key, offset]))).toEqual(
        second,
      );

      link.resetAll();
      await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
      expect(await memberIds(behind.brokers, topic)).toEqual([]);
    },
  );

  it("a member that joins again under its id gets a generation in which its old commits are refused", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 2);
    await using leader = consuming(log, topic, topic);
    await assigned(leader, 1);
    const identity: MemberIdentity = { memberId: undefined, joins: 0 };
    const before = await joinAs(identity, topic);
    before.client.kill();
    const after = await joinAs(identity, topic);
    try {
      expect(after.membership.memberId).toBe(before.membership.memberId);
      expect(after.membership.generationId).toBeGreaterThan(before.membership.generationId);
      const [partition = -1] = before.membership.assigned.get(topic) ?? [];
      // What the old connection may still hold, on its way to the same coordinator.
      const membership = { ...before.membership, coordinator: after.membership.coordinator };
      const { assignment } = createAssignment(topic, partition, { ...unfed(topic), membership });
      const refused = assignment.commit({ offset: 1, metadata: "" });
      await expect(refused).rejects.toMatchObject({ cause: { type: "ILLEGAL_GENERATION" } });
      expect(await log.committed(topic, topic)).toEqual(new Map());
    } finally {
      after.client.kill();
    }
  });

  it("a member whose id the coordinator has forgotten joins as a new one", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    const identity: MemberIdentity = { memberId: "forgotten", joins: 1 };
    const { client, membership } = await joinAs(identity, topic);
    client.kill();
    expect(membership.memberId).not.toBe("forgotten");
    expect(identity).toEqual({ memberId: membership.memberId, joins: 2 });
  });

  it("metadata of 3,000 characters comes back", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    await using consumer = consuming(log, topic, topic);
    const assignment = await assigned(consumer, 0);
    const metadata = "m".repeat(3_000);
    await assignment.commit({ offset: 0, metadata });
    expect(await assignment.committed()).toEqual({ offset: 0, metadata });
  });

  it("a topic deleted and made again is a stop at the old offset, not a jump", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    await appendToOne(log, topic, 50);
    const outcome = Promise.withResolvers<unknown>();
    const leaving = new AbortController();
    const ready = Promise.withResolvers<void>();
    const consumed = log.consume({
      topic,
      group: topic,
      signal: leaving.signal,
      async onAssigned(assignment) {
        ready.resolve();
        for (;;) {
          try {
            const records = await assignment.read({ from: 50, maxRecords: 10, maxBytes: 1e6, maxWaitMs: 500 });
            if (records.length > 0) outcome.resolve(records);
          } catch (error) {
            if (error instanceof AssignmentLostError) return;
            outcome.resolve(error);
            return;
          }
        }
      },
    });
    await ready.promise;
    await makeAgain(broker.brokers, log, topic);
    await expect.poll(() => log.append(topic, [record("k", "new")]).catch((error) => error)).toHaveLength(1);
    expect(await outcome.promise).toBeInstanceOf(OffsetOutOfRangeError);
    leaving.abort();
    await consumed;
  });

  it("a topic made again, and grown beyond the old one's end, has no record for who reads the old one", async () => {
    await using log = openLog();
    const topic = await freshTopic(log, 1);
    await appendToOne(log, topic, 5);
    await using consumer = consuming(log, topic, topic);
    const old = await assigned(consumer, 0);
    await readRange((options) => old.read(options), 0, 5);
    const id = await old.topicId();
    // For a reader that has not asked for a second nothing is fetched ahead, which would have met the deletion.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await makeAgain(broker.brokers, log, topic);
    await expect.poll(() => log.append(topic, keyed(20)).catch((error) => error)).toHaveLength(20);

    const found: unknown[] = [];
    const readOn = async () => {
      for (;;) found.push(...(await old.read({ from: 5, maxRecords: 10, maxBytes: 1e6, maxWaitMs: 500 })));
    };
    await expect(readOn()).rejects.toBeInstanceOf(AssignmentLostError);
    expect(found).toEqual([]);
    const next = await assigned(consumer, 0);
    expect(await next.topicId()).not.toBe(id);
    expect(await readRange((options) => next.read(options), 0, 20)).toHaveLength(20);
  });
});

describe.skipIf(skip !== undefined)("Kafka: topics that were there before", () => {
  async function madeByHand(settings: Record<string, string>): Promise<string> {
    const client = createKafkaClient({ brokers: broker.brokers, clientId: "by-hand", logger }, 5_000);
    const admin = client.kafka.admin();
    await admin.connect();
    const topic = `e2e-${randomUUID()}`;
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    await admin.createTopics({ topics: [{ topic, numPartitions: 1, configEntries }], waitForLeaders: true });
    client.kill();
    return topic;
  }

  it.each([
    ["callers' times", {}, "set message.timestamp.type=LogAppendTime"],
    ["compaction", { "message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact" }, "cleanup.policy=delete"],
  ])("with %s are refused by name, and what is missing beside them is made", async (_what, settings, remedy) => {
    await using log = openLog();
    const [topic, missing] = [await madeByHand(settings), `e2e-${randomUUID()}`];
    const specs = [missing, topic].map((name) => ({ topic: name, partitions: 1 }));
    const refused = log.createTopics(specs);
    await expect(refused).rejects.toBeInstanceOf(UnfitTopicError);
    await expect(refused).rejects.toThrow(topic);
    await expect(refused).rejects.toThrow(remedy);
    expect(await log.append(missing, [record("k", "v")])).toHaveLength(1);
  });

  it("with another number of partitions are taken, and the number is said", async () => {
    const said: string[] = [];
    const listening = pino({ level: "warn" }, { write: (line: string) => said.push(line) });
    await using log = openLog({ logger: listening });
    const topic = await madeByHand({ "message.timestamp.type": "LogAppendTime" });
    expect(await log.createTopics([{ topic, partitions: 1 }])).toEqual([]);
    expect(said).toEqual([]);
    expect(await log.createTopics([{ topic, partitions: 12 }])).toEqual([]);
    expect(said.map((line) => JSON.parse(line))).toMatchObject([{ topic, partitions: 1, wanted: 12 }]);
  });
});

describe.skipIf(skip !== undefined)("Kafka: idle", () => {
  it("a connected log with a consumer that reads nothing costs next to no CPU", async () => {
    await using log = openLog();
    const topic = await freshTopic(log);
    await log.append(topic, keyed(3));
    await using consumer = consuming(log, topic, topic);
    await assigned(consumer, 0);
    const idleMs = 2_000;
    await new Promise((resolve) => setTimeout(resolve, 500)); // The join's own work and its garbage end here.
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, idleMs)); // What is measured is the time itself.
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1_000).toBeLessThan(atMost(idleMs * 0.03));
  });

  it("kafkajs alone wakes up hundreds of times a second, with the repairs never", async () => {
    const wakeups = async (patched: boolean) => {
      const script = `
        import { createRequire } from "node:module";
        const require = createRequire(process.cwd() + "/package.json");
        const { Kafka } = require("kafkajs");
        if (${patched}) (await import("./lib/eventlog/kafka/patches.ts")).patchKafkajs();
        const queue = require("kafkajs/src/network/requestQueue/index.js").prototype;
        let count = 0;
        const check = queue.checkPendingRequests;
        queue.checkPendingRequests = function () { count += 1; check.call(this); };
        const admin = new Kafka({ brokers: ["${broker.brokers[0]}"], logLevel: 0 }).admin();
        await admin.connect();
        await admin.listTopics();
        count = 0;
        setTimeout(() => { console.log(count); process.exit(); }, 1000);`;
      const root = fileURLToPath(new URL("../..", import.meta.url));
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
        cwd: root,
        stdio: ["ignore", "pipe", "ignore"],
      });
      let output = "";
      for await (const chunk of child.stdout) output += chunk;
      return Number(output);
    };
    expect(await wakeups(false)).toBeGreaterThan(100);
    expect(await wakeups(true)).toBe(0);
  });
});
