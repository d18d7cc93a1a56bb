// Three brokers, replicated, behind TLS and logins: a leader dies under load, then a second broker, then both come back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { callCommand, mainOf } from "../kit/command.ts";
import { bytes, record } from "../kit/eventlog-reading.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { type ClusterBroker, startKafkaCluster, type TestKafkaCluster } from "../kit/kafka-cluster.ts";
import { openKafkaLog } from "../kit/kafka-log.ts";
import { patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { startCallers } from "../kit/steady-callers.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const canRun = kafka.available && kafka.kind === "apache";
const TOPIC = "cut";
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
});

async function leadersNow(): Promise<number[]> {
  return [...(await cluster.partitions(EVENTS_TOPIC)).values()].map(({ leader }) => leader);
}

async function leaderOf(partition: number): Promise<ClusterBroker> {
  const { leader } = (await cluster.partitions(EVENTS_TOPIC)).get(partition) ?? {};
  return cluster.brokers.find(({ id }) => id === leader) as ClusterBroker;
}
