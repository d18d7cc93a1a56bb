// Doctor against services around a real broker and a real ClickHouse: as they work, and as each of them goes away.
import kafkajs from "kafkajs";
import { Registry } from "prom-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { prepareStores } from "#lib/ledger/prepare-stores.ts";
import { createLogger } from "#lib/process/log.ts";
import { type Consumer, startConsumer } from "../../services/consumer/app.ts";
import { consumerSchema } from "../../services/consumer/config.ts";
import { EVENTS, POINTS } from "../../services/consumer/kinds.ts";
import { startGateway } from "../../services/gateway/app.ts";
import { gatewaySchema } from "../../services/gateway/config.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { diagnose } from "../kit/doctor.ts";
import { kafkaForTests, type TestBroker } from "../kit/kafka.ts";
import { atMost } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

// A broker that others use as well cannot be killed.
const choice = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });
const logger = createLogger({ level: "silent", service: "test" });
const stack = new AsyncDisposableStack();
let broker: TestBroker;
let clickhouse: TestClickHouse;
let consumer: Consumer;
let env: Record<string, string>;

beforeAll(async () => {
  if (!choice.available || choice.kind === "environment") return;
  [broker, clickhouse] = await Promise.all([choice.start(), startTestClickHouse()]);
  stack.use(broker);
  stack.use(clickhouse);
  const common = { KAFKA_BROKERS: broker.brokers.join(","), KAFKA_PARTITIONS: "3", CLICKHOUSE_URL: clickhouse.url };
  const settings = { ...common, HOST: "127.0.0.1", PORT: "0" };
  const warehouse = clickhouse.warehouse("millrace");
  const log = openLog(settings);
  const config = configOf(consumerSchema, settings);
  await prepareStores({ config, log, warehouse, logger, newEpochs: [] });
  consumer = stack.use(
    startConsumer(config, { kinds: [EVENTS, POINTS], log, warehouse, registry: new Registry(), logger }),
  );
  const parts = { log: openLog(settings), registry: new Registry(), logger };
  const gateway = stack.use(await startGateway(configOf(gatewaySchema, settings), parts));
  env = { ...common, MILLRACE_URL: `http://127.0.0.1:${gateway.port}`, DOCTOR_TIMEOUT: "10s" };
  await until(async () => {
    const { checks } = await diagnose(env, ["--no-canary"]);
    return [EVENTS_TOPIC, POINTS_TOPIC].every((topic) => checks.get(`consumer of ${topic}`)?.status === "ok");
  }, "the consumer has its partitions");
});
afterAll(() => stack.disposeAsync());

function openLog(settings: Record<string, string>): OpenLog {
  const log = createKafkaLog(kafkaOptions(configOf(gatewaySchema, settings), "doctor-test", logger));
  stack.use(log);
  return log;
}

function configOf<S extends z.ZodObject>(schema: S, settings: Record<string, string>): z.output<S> {
  const outcome = parseConfig(schema, { argv: [], env: settings, command: "test", summary: "" });
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config;
}

// One after another: each breaks something more.
it.skipIf(!choice.available)("finds nothing broken in services around Kafka that work", async () => {
  const { exitCode, checks, withStatus } = await diagnose(env);
  expect(withStatus("fail")).toEqual([]);
  expect(exitCode).toBe(0);
  expect(checks.get("log")?.what).toMatch(/^Kafka at 127\.0\.0\.1:\d+: 1 broker$/);
  expect(checks.get(`consumer of ${EVENTS_TOPIC}`)).toMatchObject({
    status: "ok",
    what: expect.stringMatching(/^1 member, /),
  });
  expect(checks.get(`consumer of ${POINTS_TOPIC}`)?.status).toBe("ok");
  expect(checks.get("canary on the log")?.what).toMatch(
    /^millrace\.events, partition [0-2], offset 0, seen after \d+ ms$/,
  );
  expect(checks.get("canary stored")?.what).toMatch(/^a row in ClickHouse after \d+ ms$/);
  // The truth about this broker: alone, and of a kind that has no write caching to tell about.
  expect(checks.get(`topic ${EVENTS_TOPIC}`)).toMatchObject({
    status: "warn",
    what: expect.stringContaining("one replica"),
  });
  expect(withStatus("skip")).toEqual(["stats", "write caching"]);
});

it.skipIf(!choice.available)("tells a topic's dangerous setting with the one to make", async () => {
  const setTimestamps = (value: string) => {
    const configEntries = [{ name: "message.timestamp.type", value }];
    const resources = [{ type: 2, name: POINTS_TOPIC, configEntries }];
    return withAdmin((admin) => admin.alterConfigs({ validateOnly: false, resources }));
  };
  await setTimestamps("CreateTime");
  const { checks, withStatus } = await diagnose(env, ["--no-canary"]);
  expect(withStatus("fail")).toEqual([`topic ${POINTS_TOPIC}`]);
  expect(checks.get(`topic ${POINTS_TOPIC}`)?.fix).toBe("set message.timestamp.type=LogAppendTime on the topic");
  await setTimestamps("LogAppendTime");
});

it.skipIf(!choice.available)("tells credentials that the brokers do not take", async () => {
  const sasl = { KAFKA_SASL_MECHANISM: "plain", KAFKA_SASL_USERNAME: "app", KAFKA_SASL_PASSWORD: "hunter2" };
  const { checks, withStatus } = await diagnose({ ...env, ...sasl }, ["--no-canary"]);
  expect(withStatus("fail")).toEqual(["log"]);
  expect(checks.get("log")?.fix).toContain("KAFKA_SASL_*");
  expect(JSON.stringify([...checks])).not.toContain("hunter2");
});

it.skipIf(!choice.available)("ends although the broker hangs, and says so", async () => {
  broker.pause();
  const begun = performance.now();
  const { exitCode, checks } = await diagnose({ ...env, DOCTOR_TIMEOUT: "1s" }, ["--no-canary"]);
  expect(performance.now() - begun).toBeLessThan(atMost(5_000));
  broker.resume();
  expect(exitCode).toBe(1);
  expect(checks.get("log")).toMatchObject({ status: "fail", fix: expect.stringContaining("brokers") });
});

it.skipIf(!choice.available)("tells a consumer that is stopped, and how much waits for it", async () => {
  await consumer[Symbol.asyncDispose]();
  const { exitCode, checks, withStatus } = await diagnose({ ...env, DOCTOR_TIMEOUT: "2s" });
  expect(exitCode).toBe(1);
  expect(withStatus("fail")).toEqual([`consumer of ${EVENTS_TOPIC}`, `consumer of ${POINTS_TOPIC}`, "canary stored"]);
  expect(checks.get("canary on the log")?.status).toBe("ok");
  expect(checks.get("canary stored")?.what).toBe("no row in ClickHouse after 2 s");
  const later = await diagnose(env, ["--no-canary"]);
  expect(later.checks.get(`consumer of ${EVENTS_TOPIC}`)).toMatchObject({
    what: expect.stringMatching(/^no consumer is in the group; 1 not stored yet \(the oldest since \d+ s\)$/),
    fix: expect.stringContaining("start `millrace consumer`"),
  });
});

it.skipIf(!choice.available)(
  "tells a topic that was deleted, and one that was made again under stored rows",
  async () => {
    await withAdmin((admin) => admin.deleteTopics({ topics: [EVENTS_TOPIC] }));
    const deleted = await diagnose(env, ["--no-canary"]);
    expect(deleted.checks.get(`topic ${EVENTS_TOPIC}`)).toMatchObject({
      status: "fail",
      fix: "run `millrace migrate`",
    });

    await withAdmin((admin) =>
      admin.createTopics({
        waitForLeaders: true,
        topics: [
          {
            topic: EVENTS_TOPIC,
            numPartitions: 3,
            configEntries: [{ name: "message.timestamp.type", value: "LogAppendTime" }],
          },
        ],
      }),
    );
    const reset = await diagnose(env, ["--no-canary"]);
    expect(reset.checks.get(`log of ${EVENTS_TOPIC}`)).toMatchObject({
      status: "warn",
      what: expect.stringMatching(
        /^epoch \S{8} of a topic that was deleted and made again: what \S{8} had and nobody stored is lost$/,
      ),
    });
  },
);

it.skipIf(!choice.available)("tells ClickHouse that is down, and what of the rest works", async () => {
  await clickhouse.endpoint[Symbol.asyncDispose]();
  const { checks, withStatus } = await diagnose(env);
  expect(withStatus("fail")).toEqual(["ClickHouse", `consumer of ${EVENTS_TOPIC}`, `consumer of ${POINTS_TOPIC}`]);
  expect(checks.get("ClickHouse")).toMatchObject({
    what: expect.stringContaining("ECONNREFUSED"),
    fix: expect.stringContaining("CLICKHOUSE_URL"),
  });
  expect(checks.get("canary on the log")?.status).toBe("ok");
});

it.skipIf(!choice.available)("tells a broker that is down, from the gateway's side and from its own", async () => {
  await broker.kill9();
  // Readiness is shared for half a second.
  await until(async () => (await fetch(`${env.MILLRACE_URL}/readyz`)).status === 503, "the gateway has noticed");
  const { exitCode, checks, withStatus } = await diagnose({ ...env, DOCTOR_TIMEOUT: "5s" }, ["--no-canary"]);
  expect(exitCode).toBe(1);
  expect(withStatus("fail")).toEqual(["gateway", "log", "ClickHouse"]);
  expect(checks.get("gateway")?.what).toContain("is not ready: log: ");
  expect(checks.get("log")).toMatchObject({
    what: expect.stringContaining("ECONNREFUSED"),
    fix: expect.stringContaining("check that the brokers run"),
  });
});

async function withAdmin(act: (admin: kafkajs.Admin) => Promise<unknown>): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: broker.brokers, logLevel: kafkajs.logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    await act(admin);
  } finally {
    await admin.disconnect();
  }
}
