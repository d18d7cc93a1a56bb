// Three brokers, replicated, behind TLS and logins: a leader dies under load, then a second broker, then both come back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { callCommand, mainOf } from "../kit/command.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { type ClusterBroker, startKafkaCluster, type TestKafkaCluster } from "../kit/kafka-cluster.ts";
import { patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { startCallers } from "../kit/steady-callers.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const canRun = kafka.available && kafka.kind === "apache";
const DATABASE = "millrace";
/** What was under way when the second broker died may still be answered. */
const UNDER_WAY_MS = 500;

let stack: AsyncDisposableStack;
let cluster: TestKafkaCluster;
let warehouse: Warehouse;
let clickhouse: Record<string, string>;
let gateway: Spawned;
beforeAll(async () => {
  stack = new AsyncDisposableStack();
  if (!canRun) return;
  const [brokers, server] = await Promise.all([startKafkaCluster({ links: false }), startTestClickHouse()]);
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
    using callers = startCallers({ port, eventsPerSecond: 1_000, callers: 60, eventsPerRequest: 20 });
    const more = async (events: number) => {
      const before = callers.acked.size;
      await until(() => callers.acked.size > before + events, `${events} more are acknowledged`, patience(40_000));
    };
    await more(1_000);
    expect([...(await cluster.partitions(EVENTS_TOPIC)).values()].map(({ inSync }) => inSync.length)).toEqual(
      Array(6).fill(3),
    );

    const first = await leaderOf(0);
    await first.kill9();
    await until(async () => (await leadersNow()).every((leader) => leader !== first.id), "leadership has moved");
    await more(1_000);

    const second = cluster.brokers.find(({ id }) => id !== first.id) as ClusterBroker;
    await second.kill9();
    const alone = performance.now() + UNDER_WAY_MS;
    const answered = () => callers.answers.filter(({ at, ms }) => at > alone && at - ms > alone);
    await until(() => answered().length > 30, "callers are answered while one broker is alone", patience(40_000));
    const wrong = callers.answers.filter(({ at, code }) => at > alone && code === "ok");
    await Promise.all([first.restart(), second.restart()]);
    expect(wrong).toEqual([]);
    await more(1_000);
    await callers.finish();
    expect(callers.acked.size).toBe(callers.sent.size);

    const login = cluster.env("plain");
    const verify = await callCommand(await mainOf("verify"), ["--wait", "60s"], { ...clickhouse, ...login });
    expect(verify.code, verify.out + verify.err).toBe(0);
    const rows = await warehouse.query<{ id: string }>("SELECT toString(uuid) AS id FROM events_raw");
    const ids = rows.map(({ id }) => id);
    expect(ids.toSorted()).toEqual([...callers.acked].toSorted());
  });
});

async function leadersNow(): Promise<number[]> {
  return [...(await cluster.partitions(EVENTS_TOPIC)).values()].map(({ leader }) => leader);
}

async function leaderOf(partition: number): Promise<ClusterBroker> {
  const { leader } = (await cluster.partitions(EVENTS_TOPIC)).get(partition) ?? {};
  return cluster.brokers.find(({ id }) => id === leader) as ClusterBroker;
}
