// Three brokers, replicated, behind TLS and logins: a leader dies under load, then a second broker, then both come back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { callCommand, mainOf } from "../kit/command.ts";
import { assigned, consuming } from "../kit/consuming.ts";
import { bytes, record, text } from "../kit/eventlog-reading.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { type ClusterBroker, rackOf, startKafkaCluster, type TestKafkaCluster } from "../kit/kafka-cluster.ts";
import { openKafkaLog } from "../kit/kafka-log.ts";
import type { PartitionState } from "../kit/kafka-metadata.ts";
import { patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { startCallers } from "../kit/steady-callers.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const canRun = kafka.available && kafka.kind === "apache";
const TOPIC = "cut";
const RACKS = "racks";
const DATABASE = "millrace";

let stack: AsyncDisposableStack;
let cluster: TestKafkaCluster;
let warehouse: Warehouse;
let clickhouse: Record<string, string>;
let gateway: Spawned;
beforeAll(async () => {
  stack = new AsyncDisposableStack();
  if (!canRun) return;
  const [brokers, server] = await Promise.all([startKafkaCluster(), startTestClickHouse()]);
  cluster = stack.use(brokers);
  stack.use(server);
  clickhouse = { CLICKHOUSE_URL: server.url, CLICKHOUSE_DATABASE: DATABASE };
  const env = { ...clickhouse, ...cluster.env("plain"), KAFKA_PARTITIONS: "6" };
  const { code, err } = await callCommand(await mainOf("migrate"), [], env);
  if (code !== 0) throw new Error(`migrate ended with ${code}: ${err}`);
  warehouse = server.warehouse(DATABASE);
  gateway = stack.use(spawnMillrace(["gateway"], { ...cluster.env("scram-sha-512"), HOST: "127.0.0.1", PORT: "0" }));
  stack.use(spawnMillrace(["consumer"], { ...clickhouse, ...cluster.env("certificate"), CONSUMER_PORT: "0" }));
});
afterAll(() => stack.disposeAsync(), patience(60_000));

describe.skipIf(!canRun)("a cluster of three brokers", () => {
  it("a leader's death, two of three away and their return: what was acknowledged is stored once, and nothing was without a second replica", async () => {
    const port = (await gateway.logged("gateway listening")).port as number;
    using callers = startCallers({ port, eventsPerSecond: 400, callers: 60, eventsPerRequest: 20 });
    const more = async (events: number) => {
      const before = callers.acked.size;
      await until(() => callers.acked.size > before + events, `${events} more are acknowledged`, patience(40_000));
    };
    await more(400);
    const replicated = async () =>
      [...(await cluster.partitions(EVENTS_TOPIC)).values()].every(({ inSync }) => inSync.length === 3);
    await until(replicated, "all replicas are in sync", patience(40_000));

    const first = await leaderOf(0);
    await first.kill9();
    await until(
      async () => (await leadersNow()).every((leader) => leader !== first.id),
      "leadership has moved",
      patience(40_000),
    );
    await more(400);

    const second = cluster.brokers.find(({ id }) => id !== first.id) as ClusterBroker;
    await second.kill9();
    // What was under way when the second broker died may still be acknowledged.
    const alone = performance.now();
    const answered = () => callers.answers.filter(({ at, ms }) => at - ms > alone);
    await until(() => answered().length > 30, "callers are answered while one broker is alone", patience(40_000));
    const wrong = answered().filter(({ code }) => code === "ok");
    await Promise.all([first.restart(), second.restart()]);
    expect(wrong).toEqual([]);
    await more(400);
    await callers.finish();
    expect(callers.acked.size).toBe(callers.sent.size);

    const login = cluster.env("plain");
    const verify = await callCommand(await mainOf("verify"), ["--wait", "60s"], { ...clickhouse, ...login });
    expect(verify.code, verify.out + verify.err).toBe(0);
    const rows = await warehouse.query<{ id: string }>("SELECT toString(uuid) AS id FROM events_raw");
    const ids = rows.map(({ id }) => id);
    expect(ids.toSorted()).toEqual([...callers.acked].toSorted());
  });

  it("a broker that its clients cannot reach holds up its own partitions and no others", async () => {
    await using log = openKafkaLog(cluster.env("scram-sha-256"));
    const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);
    const append = (key: string) => log.append(TOPIC, [record(key, "value")]);
    await log.createTopics([{ topic: TOPIC, partitions: 6 }]);
    await Promise.all(keys.map(append));
    const states = await cluster.partitions(TOPIC);
    const cut = cluster.brokers.find(({ id }) => id === states.get(0)?.leader) as ClusterBroker;
    const isCut = (key: string) => states.get(partitionOf(bytes(key), 6))?.leader === cut.id;
    expect(new Set(keys.map(isCut)).size).toBe(2);
    cut.cutFromClients(true);
    try {
      const ends: string[] = [];
      const waiting = keys.filter(isCut).map((key) =>
        append(key).then(
          () => ends.push("stored"),
          (error: Error) => ends.push(error.name),
        ),
      );
      const [later, ...rest] = keys.filter((key) => !isCut(key));
      await append(later as string);
      expect(ends).toEqual([]);
      for (const key of rest) await append(key);
      const mixed = await log
        .append(
          TOPIC,
          keys.map((key) => record(key, "mixed")),
        )
        .catch((error: unknown) => error);
      if (!(mixed instanceof PartialAppendError)) throw new Error("the append was not partial", { cause: mixed });
      expect(mixed.outcomes.map((outcome) => outcome instanceof Error)).toEqual(keys.map(isCut));
      await Promise.all(waiting);
      expect(new Set(ends)).toEqual(new Set(["LogUnavailableError"]));
    } finally {
      cut.cutFromClients(false);
    }
    const appended = () =>
      Promise.all(keys.map(append)).then(
        () => true,
        () => false,
      );
    await expect.poll(appended, { timeout: patience(20_000) }).toBe(true);
  });

  it("a consumer reads from the replica in its rack, also while the leader is out of its reach", async () => {
    await using writing = openKafkaLog({ KAFKA_BROKERS: cluster.peers.join(",") });
    await writing.createTopics([{ topic: RACKS, partitions: 6 }]);
    const group = "racks";
    // The first question about a group has the brokers make their topic of offsets.
    await writing.committed(RACKS, group);
    const coordinator = await coordinatorOf(group);
    const states = await cluster.partitions(RACKS);
    const [partition, { leader, inSync }] = [...states].find(([, state]) => state.leader !== coordinator) as [
      number,
      PartitionState,
    ];
    const key = Array.from({ length: 100 }, (_, i) => `key-${i}`).find(
      (one) => partitionOf(bytes(one), 6) === partition,
    );
    const append = (value: string) => writing.append(RACKS, [record(key as string, value)]);
    let first: number | undefined;
    const begun = async () => {
      first ??= (await append("first").catch(() => undefined))?.[0]?.offset;
      return first !== undefined;
    };
    await until(begun, "the topic can be written to", patience(20_000));
    const rack = rackOf(inSync.find((id) => id !== leader) as number);
    await using reading = openKafkaLog({ ...cluster.env("scram-sha-256"), KAFKA_RACK: rack });
    await using consumer = consuming(reading, RACKS, group);
    const assignment = await assigned(consumer, partition);
    const read = async (from: number) =>
      (await assignment.read({ from, maxRecords: 1, maxBytes: 1e6, maxWaitMs: patience(20_000) })).map(({ value }) =>
        text(value),
      );
    expect(await read(first as unknown as number)).toEqual(["first"]);
    const cut = cluster.brokers.find(({ id }) => id === leader) as ClusterBroker;
    cut.cutFromClients(true);
    try {
      const { offset } = (await append("second"))[0] as { offset: number };
      expect(await read(offset)).toEqual(["second"]);
    } finally {
      cut.cutFromClients(false);
    }
    expect(assignment.lost.aborted).toBe(false);
  });
});

/** Kafka's own rule: the leader of one partition of its topic of offsets, by Java's hash of the group's name. */
async function coordinatorOf(group: string): Promise<number | undefined> {
  const offsets = await cluster.partitions("__consumer_offsets");
  const hash = [...group].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) | 0, 0);
  return offsets.get((hash & 0x7fffffff) % offsets.size)?.leader;
}

async function leadersNow(): Promise<number[]> {
  return [...(await cluster.partitions(EVENTS_TOPIC)).values()].map(({ leader }) => leader);
}

async function leaderOf(partition: number): Promise<ClusterBroker> {
  const { leader } = (await cluster.partitions(EVENTS_TOPIC)).get(partition) ?? {};
  return cluster.brokers.find(({ id }) => id === leader) as ClusterBroker;
}
