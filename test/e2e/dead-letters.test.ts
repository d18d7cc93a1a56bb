// `millrace dead-letters` on Kafka, where it writes to the log itself: several partitions, every part a process.
import { pino } from "pino";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, idOf } from "../kit/consumer.ts";
import { valuelessRecord } from "../kit/dead-letters.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { pointRecord } from "../kit/points.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { runMillrace } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests();
const DATABASE = "letters_kafka";
const PARTITIONS = 3;

let broker: AsyncDisposable & { readonly brokers: string[] };
let clickhouse: TestClickHouse;
let log: OpenLog;
let env: Record<string, string>;

beforeAll(async () => {
  if (!kafka.available) return;
  [broker, clickhouse] = await Promise.all([kafka.start(), startTestClickHouse()]);
  log = createKafkaLog({ brokers: broker.brokers, clientId: "letters", logger: pino({ level: "silent" }) });
  env = {
    ...{ KAFKA_BROKERS: broker.brokers.join(","), KAFKA_PARTITIONS: String(PARTITIONS) },
    ...{ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: DATABASE, CONSUMER_PORT: "0" },
  };
});
afterAll(async () => {
  await log?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
  await broker?.[Symbol.asyncDispose]();
});

it.skipIf(!kafka.available)(
  "letters on Kafka are corrected and become a row each, whatever is sent twice",
  async () => {
    expect((await runMillrace(["migrate"], env)).code).toBe(0);
    await using consumer = spawnMillrace(["consumer"], env);
    await consumer.logged("partition assigned");
    const letters = Array.from({ length: 30 }, (_, n) => valuelessRecord({ id: idOf(n), distinctId: `d${n}` }));
    const good = Array.from({ length: 30 }, (_, n) => eventRecord({ distinctId: `d${n}` }));
    await log.append(EVENTS_TOPIC, [...letters, ...good]);
    const warehouse = clickhouse.warehouse(DATABASE);
    const count = async (table: string) => {
      const [row] = await warehouse.query<{ n: string }>(`SELECT toString(count()) AS n FROM ${table}`);
      return Number(row?.n);
    };
    await until(
      async () => (await count("dead_letters")) === 30 && (await count("events_raw")) === 30,
      "all is stored",
    );

    const replay = () => runMillrace(["dead-letters", "replay", "--set", "value=2", "--set", "distinct_id=other"], env);
    const [first, second] = await Promise.all([replay(), replay()]);
    expect([first.code, second.code], first.stderr + second.stderr).toEqual([0, 0]);
    const outcomes = "log_outcomes WHERE outcome = 'duplicate'";
    const appended = [first, second].reduce(
      (sum, { stdout }) => sum + Number(/^replayed (\d+),/m.exec(stdout)?.[1]),
      0,
    );
    await until(async () => (await count("events_raw")) + (await count(outcomes)) === 30 + appended, "all is stored");
    expect(await count("events_raw")).toBe(60);
    expect(await count("(SELECT DISTINCT uuid FROM events_raw WHERE distinct_id = 'other')")).toBe(30);
    expect((await replay()).stdout).toContain("replayed 0, skipped 30 as stored, 0 not replayable, 0 failed");

    const [place] = await warehouse.query<{ name: string }>(
      `SELECT concat(log_epoch, ':', log_topic, ':', toString(log_partition), ':', toString(log_offset)) AS name
     FROM dead_letters ORDER BY log_partition, log_offset LIMIT 1`,
    );
    const shown = await runMillrace(["dead-letters", "show", place?.name ?? ""], env);
    expect(shown.stdout).toMatch(/^replayed: .*, now a row$/m);
    // The consumer commits a moment after its rows are stored.
    await until(async () => (await runMillrace(["verify"], env)).code === 0, "verify finds nothing");
  },
);

it.skipIf(!kafka.available)("a letter of a point on Kafka is corrected, a row once, and audited", async () => {
  expect((await runMillrace(["migrate"], env)).code).toBe(0);
  await using consumer = spawnMillrace(["consumer"], env);
  await consumer.logged("partition assigned");
  const warehouse = clickhouse.warehouse(DATABASE);
  const isStored = async (sql: string) => (await warehouse.query(sql)).length > 0;
  await log.append(POINTS_TOPIC, [pointRecord({ id: idOf(1), value: Number.NaN, metric: "cpu" })]);
  const letter = `dead_letters WHERE log_topic = '${POINTS_TOPIC}'`;
  await until(() => isStored(`SELECT 1 FROM ${letter}`), "it is a letter");
  const replay = () => runMillrace(["dead-letters", "replay", "--topic", POINTS_TOPIC, "--set", "value=2"], env);
  expect((await replay()).stdout).toContain("replayed 1, skipped 0 as stored, 0 not replayable, 0 failed");
  await until(() => isStored(`SELECT 1 FROM points WHERE uuid = '${idOf(1)}' AND value = 2`), "it is a row");
  expect((await replay()).stdout).toContain("replayed 0, skipped 1 as stored, 0 not replayable, 0 failed");
  const verified = async () => {
    const { code, stdout } = await runMillrace(["verify"], env);
    return code === 0 && stdout.includes(`topic ${POINTS_TOPIC}`);
  };
  await until(verified, "verify finds nothing");
});
