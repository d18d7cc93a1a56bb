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
  "a topic deleted and made again stops the consumer with the remedy; nothing is swallowed",
  async () => {
    expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
    await using gateway = spawnMillrace(["gateway"], env);
    const { port } = await gateway.logged("gateway listening");
    const first = await startConsumer();
    await publish(port, 300);
    await rowsReach(300);

    // The gateway and the consumer stay up over it, as they would in an accident.
    await deleteAndMakeAgain();
    await publish(port, 500);

    const halted = await first.consumer.logged("partition halted", patience(20_000));
    expect(JSON.stringify(halted)).toContain("millrace migrate --new-epoch");
    const readiness = await fetch(`http://127.0.0.1:${first.healthPort}/readyz`);
    expect(readiness.status).toBe(503);
    expect(await readiness.text()).toContain("millrace migrate --new-epoch");
    expect(await countRows()).toBe(300);
    await first.consumer.stop("SIGTERM");

    // Started again without the remedy it finds out by itself, although the new log has grown past the old one's end.
    const second = await startConsumer(false);
    await second.consumer.logged("partition halted");
    expect(await countRows()).toBe(300);
    await second.consumer.stop("SIGTERM");

    // Made by hand, and with the clocks of callers.
    const refused = spawnMillrace(["migrate", "--new-epoch"], env);
    expect(await refused.exited).toBe(1);
    expect(refused.lines.join("\n")).toContain("set message.timestamp.type=LogAppendTime on the topic");
    await useAppendTimes();
    expect(await spawnMillrace(["migrate", "--new-epoch"], env).exited).toBe(0);
    const third = await startConsumer();
    await rowsReach(800);
    await publish(port, 50);
    await rowsReach(850);
    const verify = spawnMillrace(["verify"], env);
    expect(await verify.exited, verify.lines.join("\n")).toBe(0);
    await third.consumer.stop("SIGTERM");
  },
);

it.skipIf(!choice.available)("of another program's transactions only what was committed becomes rows", async () => {
  expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
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

async function startConsumer(waitForPartition = true): Promise<{ consumer: Spawned; healthPort: number }> {
  const consumer = stack.use(spawnMillrace(["consumer"], env));
  const { port } = await consumer.logged("health and metrics are served");
  if (waitForPartition) await consumer.logged("partition assigned");
  return { consumer, healthPort: Number(port) };
}

function deleteAndMakeAgain(): Promise<void> {
  return withAdmin(async (admin) => {
    await admin.deleteTopics({ topics: [EVENTS_TOPIC] });
    while ((await admin.listTopics()).includes(EVENTS_TOPIC)) await sleep(100);
    await admin.createTopics({ topics: [{ topic: EVENTS_TOPIC, numPartitions: 1, replicationFactor: 1 }] });
  });
}

function useAppendTimes(): Promise<void> {
  const configEntries = [{ name: "message.timestamp.type", value: "LogAppendTime" }];
  const resources = [{ type: 2, name: EVENTS_TOPIC, configEntries }];
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
