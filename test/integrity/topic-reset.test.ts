import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import kafkajs from "kafkajs";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord } from "../kit/consumer.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";

const choice = kafkaForTests();
const APPEND_TIMES = [{ name: "message.timestamp.type", value: "LogAppendTime" }];
const stack = new AsyncDisposableStack();
let env: Record<string, string>;
let brokers: string[];
let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  if (!choice.available) return;
  ({ brokers } = stack.use(await choice.start()));
  clickhouse = stack.use(await startTestClickHouse());
  warehouse = clickhouse.warehouse("millrace");
  env = {
    KAFKA_BROKERS: brokers.join(","),
    KAFKA_PARTITIONS: "1",
    CLICKHOUSE_URL: clickhouse.url,
    HOST: "127.0.0.1",
    PORT: "0",
    CONSUMER_PORT: "0",
  };
});
afterAll(() => stack.disposeAsync());

it.skipIf(!choice.available)(
  "a topic deleted and made again is another log: its events are stored from the first on, beside those of before",
  async () => {
    await migrate();
    await using gateway = spawnMillrace(["gateway"], env);
    const { port } = await gateway.logged("gateway listening");
    const first = await startConsumer();
    await publish(port, 300);
    await rowsReach(300);

    // The gateway and the consumer stay up over it, as they would in an accident.
    await deleteAndMakeAgain(APPEND_TIMES);
    await publish(port, 500);
    await first.consumer.logged("the topic was deleted and made again, and has a new epoch", patience(20_000));
    await rowsReach(800);

    // And with no consumer there to see it, until it has grown past its old end.
    await first.consumer.stop("SIGTERM");
    await deleteAndMakeAgain(APPEND_TIMES);
    await publish(port, 700);
    const second = await startConsumer();
    await rowsReach(1500);

    const rows = await warehouse.query(
      `SELECT toString(count()) AS n, toString(uniqExact(uuid)) AS ids, toString(max(log_offset)) AS last FROM events_raw
       GROUP BY log_epoch ORDER BY min(inserted_at)`,
    );
    const of = (n: number) => ({ n: String(n), ids: String(n), last: String(n - 1) });
    expect(rows).toEqual([of(300), of(500), of(700)]);
    const verify = spawnMillrace(["verify"], env);
    expect(await verify.exited, verify.lines.join("\n")).toBe(0);
    for (const n of [300, 500])
      expect(verify.lines.join("\n")).toContain(` with ${n} rows and outcomes, whose log is gone`);
    await second.consumer.stop("SIGTERM");
  },
);

it.skipIf(!choice.available)(
  "made again before its id was known, it stops the consumer with the remedy; nothing is swallowed",
  async () => {
    await migrate();
    await using gateway = spawnMillrace(["gateway"], env);
    const { port } = await gateway.logged("gateway listening");
    const before = await countRows();
    await rememberNoIds();
    const first = await startConsumer();
    await publish(port, 30);
    await rowsReach(before + 30);
    await first.consumer.stop("SIGTERM");
    await rememberNoIds();

    await deleteAndMakeAgain([]);
    await publish(port, 2000);
    const second = await startConsumer(false);
    const halted = await second.consumer.logged("partition halted", patience(20_000));
    expect(JSON.stringify(halted)).toContain("millrace migrate --new-epoch");
    const readiness = await fetch(`http://127.0.0.1:${second.healthPort}/readyz`);
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toContain("millrace migrate --new-epoch");
    expect(await countRows()).toBe(before + 30);

    // Made by hand, and with the clocks of callers.
    const refused = spawnMillrace(["migrate", "--new-epoch"], env);
    expect(await refused.exited).toBe(1);
    expect(refused.lines.join("\n")).toContain("set message.timestamp.type=LogAppendTime on the topic");
    await useAppendTimes();
    await migrate("--new-epoch");
    // The consumer that was halted finds it.
    await rowsReach(before + 2030);
    await publish(port, 50);
    await rowsReach(before + 2080);
    const verify = spawnMillrace(["verify"], env);
    expect(await verify.exited, verify.lines.join("\n")).toBe(0);
    await second.consumer.stop("SIGTERM");
  },
);

it.skipIf(!choice.available)("of another program's transactions only what was committed becomes rows", async () => {
  await migrate();
  const { consumer } = await startConsumer();
  const rowsBefore = await countRows();
  const producer = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer({
    ...{ transactionalId: "foreign", idempotent: true, maxInFlightRequests: 1 },
  });
  await producer.connect();
  const transact = async (count: number, end: "commit" | "abort") => {
    const transaction = await producer.transaction();
    const messages = Array.from({ length: count }, () => {
      const { key, value } = eventRecord();
      return { key: Buffer.from(key), value: Buffer.from(value) };
    });
    await transaction.send({ topic: EVENTS_TOPIC, messages });
    await transaction[end]();
  };
  try {
    await transact(3, "abort");
    await transact(2, "commit");
    await transact(4, "abort");
    await transact(1, "commit");
  } finally {
    await producer.disconnect();
  }
  await rowsReach(rowsBefore + 3);
  // The last one that nobody may read comes after the last row.
  const verify = spawnMillrace(["verify", "--wait", "30s"], env);
  expect(await verify.exited, verify.lines.join("\n")).toBe(0);
  expect(verify.lines.join("\n")).toContain("partition 0: 11 offsets are no events");
  const outcomes = await warehouse.query(
    `SELECT outcome, detail, toString(count()) AS n FROM log_outcomes WHERE outcome IN ('aborted', 'dead_letter')
     GROUP BY outcome, detail ORDER BY detail`,
  );
  expect(outcomes).toEqual([
    { outcome: "aborted", detail: "a control record of Kafka", n: "4" },
    { outcome: "aborted", detail: "of a transaction that was aborted", n: "7" },
  ]);
  expect(await countRows()).toBe(rowsBefore + 3);
  await consumer.stop("SIGTERM");
});

async function migrate(...args: string[]): Promise<void> {
  const run = spawnMillrace(["migrate", ...args], env);
  expect(await run.exited, run.lines.join("\n")).toBe(0);
}

async function startConsumer(waitForPartition = true): Promise<{ consumer: Spawned; healthPort: number }> {
  const consumer = stack.use(spawnMillrace(["consumer"], env));
  const { port } = await consumer.logged("health and metrics are served");
  if (waitForPartition) await consumer.logged("partition assigned");
  return { consumer, healthPort: Number(port) };
}

function deleteAndMakeAgain(configEntries: kafkajs.ITopicConfig["configEntries"] & {}): Promise<void> {
  return withAdmin(async (admin) => {
    await admin.deleteTopics({ topics: [EVENTS_TOPIC] });
    while ((await admin.listTopics()).includes(EVENTS_TOPIC)) await sleep(100);
    await admin.createTopics({
      topics: [{ topic: EVENTS_TOPIC, numPartitions: 1, replicationFactor: 1, configEntries }],
    });
  });
}

/** As the tables were left before they had topic ids: the epoch of now is not known to be this topic's. */
async function rememberNoIds(): Promise<void> {
  const [newest] = await warehouse.query<{ epoch: string; g: number }>(
    `SELECT log_epoch AS epoch, generation AS g FROM log_epochs WHERE log_topic = {topic:String}
     ORDER BY generation DESC LIMIT 1`,
    { params: { topic: EVENTS_TOPIC } },
  );
  await warehouse.command("TRUNCATE TABLE log_epochs SETTINGS max_table_size_to_drop = 0");
  await warehouse.insert({
    table: "log_epochs",
    columns: ["log_topic", "log_epoch", "generation"],
    rows: Buffer.from(`${JSON.stringify([EVENTS_TOPIC, newest?.epoch, newest?.g])}\n`),
    token: randomUUID(),
  });
}

function useAppendTimes(): Promise<void> {
  const resources = [{ type: 2, name: EVENTS_TOPIC, configEntries: APPEND_TIMES }];
  return withAdmin((admin) => admin.alterConfigs({ validateOnly: false, resources }));
}

async function withAdmin(act: (admin: kafkajs.Admin) => Promise<unknown>): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    await act(admin);
  } finally {
    await admin.disconnect();
  }
}

async function publish(port: unknown, count: number): Promise<void> {
  const client = createClient(
    EventService,
    createConnectTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion: "1.1" }),
  );
  const events = Array.from({ length: count }, (_, n) => ({
    id: randomUUID(),
    event: "reset_test",
    distinctId: `u${n}`,
  }));
  // The topic is being made again: unavailable for a moment, and the same ids go again.
  const accepted = async () => expect((await client.publish({ events })).accepted).toBe(count);
  await vi.waitFor(accepted, { timeout: 15_000, interval: 500 });
}

async function countRows(): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw");
  return Number(row?.n);
}

async function rowsReach(expected: number): Promise<void> {
  await expect.poll(countRows, { timeout: 30_000, interval: 100 }).toBe(expected);
}
