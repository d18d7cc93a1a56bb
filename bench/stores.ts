// Where events go in a case, and how they are counted there: a fresh log, a fresh ClickHouse.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../test/kit/clickhouse.ts";
import { kafkaForTests } from "../test/kit/kafka.ts";
import { spawnMillrace } from "../test/kit/processes.ts";
import { CaseFailedError, type Setting } from "./result.ts";

export interface LogTarget extends AsyncDisposable {
  /** As gateway-process.ts takes it. */
  address: string;
  log: OpenLog;
  /** Records on the topic, by its end offsets. */
  count(): Promise<number>;
}

export interface KafkaTarget extends LogTarget {
  broker: string;
}

export interface PathTarget extends KafkaTarget {
  clickhouseUrl: string;
  warehouse: Warehouse;
  /** Environment of a `millrace` command that works on these stores. */
  env: Record<string, string>;
}

const PARTITIONS = 6;
const POLL_MS = 200;
const DRAIN_MS_MAX = 180_000;

export async function startSqliteTarget(): Promise<LogTarget> {
  await using stack = new AsyncDisposableStack();
  const file = join(await makeScratch(stack), "log.sqlite");
  // Made here so that it can be opened for counting; the process under test then owns it.
  const made = await createSqliteLog({ file });
  await made.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
  await made[Symbol.asyncDispose]();
  const log = await createSqliteLog({ file, readOnly: true });
  stack.use(log);
  const owned = stack.move();
  return { address: `sqlite:${file}`, log, count: () => countRecords(log), ...disposing(owned) };
}

export async function startKafkaTarget(): Promise<KafkaTarget> {
  await using stack = new AsyncDisposableStack();
  const choice = kafkaForTests();
  if (!choice.available) throw new Error(choice.reason);
  if (choice.kind === "environment") throw new Error("unset KAFKA_BROKERS: the benchmark counts a broker of its own");
  const broker = stack.use(await choice.start()).brokers[0] as string;
  const log = createKafkaLog({ brokers: [broker], clientId: "bench", logger: pino({ level: "silent" }) });
  stack.use(log);
  const owned = stack.move();
  return { address: `kafka:${broker}`, broker, log, count: () => countRecords(log), ...disposing(owned) };
}

/** Kafka and ClickHouse with topic and tables in place. */
export async function startPathTarget(): Promise<PathTarget> {
  await using stack = new AsyncDisposableStack();
  const target = stack.use(await startKafkaTarget());
  const clickhouse: TestClickHouse = stack.use(await startTestClickHouse());
  const env = {
    KAFKA_BROKERS: target.broker,
    KAFKA_PARTITIONS: String(PARTITIONS),
    CLICKHOUSE_URL: clickhouse.url,
  };
  await using migrate = spawnMillrace(["migrate"], env);
  if ((await migrate.exited) !== 0) throw new Error(migrate.lines.join("\n"));
  const warehouse = clickhouse.warehouse("millrace");
  const owned = stack.move();
  return { ...target, clickhouseUrl: clickhouse.url, warehouse, env, ...disposing(owned) };
}

/** A temporary directory that goes with `stack`. */
export async function makeScratch(stack: AsyncDisposableStack): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-bench-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function countRows(warehouse: Warehouse): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw");
  return Number(row?.n);
}

/** Resolves when there are `expected` rows or more; rejects after three minutes, or when `ended` or the setting's signal fires. */
export async function rowsReach(
  warehouse: Warehouse,
  expected: number,
  setting: Setting,
  ended?: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + DRAIN_MS_MAX;
  for (;;) {
    setting.signal.throwIfAborted();
    ended?.throwIfAborted();
    const rows = await countRows(warehouse);
    if (rows >= expected) return;
    if (performance.now() > deadline) {
      throw new CaseFailedError(`${rows} of ${expected} rows after ${DRAIN_MS_MAX / 1000} s`);
    }
    setting.progress(`${rows} of ${expected} rows`);
    await sleep(POLL_MS);
  }
}

async function countRecords(log: OpenLog): Promise<number> {
  const bounds = await log.bounds(EVENTS_TOPIC);
  return bounds.reduce((sum, { start, end }) => sum + end - start, 0);
}

function disposing(owned: AsyncDisposableStack): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
