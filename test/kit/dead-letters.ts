// A standalone in pieces (SQLite log in a file, gateway, consumer, ClickHouse endpoint), so that a test can put records
// on its log that no gateway would take, and `millrace dead-letters` as a process against it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { z } from "zod";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { parseConfig } from "#lib/config/parse.ts";
import type { AppendRecord, OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { main } from "../../commands/dead-letters/main.ts";
import { startConsumer } from "../../services/consumer/app.ts";
import { EVENTS, POINTS } from "../../services/consumer/kinds.ts";
import { startGateway } from "../../services/gateway/app.ts";
import { type IngressConfig, ingressSettings } from "../../services/gateway/config.ts";
import type { TestClickHouse } from "./clickhouse.ts";
import { callCommand } from "./command.ts";
import { BATCHES, eventRecord } from "./consumer.ts";
import type { Finished } from "./standalone.ts";
import { until } from "./until.ts";

export interface DeadLetterStage extends AsyncDisposable {
  readonly log: OpenLog;
  readonly warehouse: Warehouse;
  readonly epoch: string;
  readonly gatewayUrl: string;
  /** Settings with which commands find it. */
  readonly env: Record<string, string>;
  /** Appends and, while a consumer runs, waits until all is stored. */
  append(...records: AppendRecord[]): Promise<void>;
  startConsumer(): void;
  stopConsumer(): Promise<void>;
  drained(): Promise<void>;
  end(): Promise<number>;
  recordAt(offset: number): Promise<EventRecord>;
  /** `millrace dead-letters <args>`, in this process. */
  run(...args: string[]): Promise<Finished>;
  /** The name that ls gives to the letter at an offset. */
  nameOf(offset: number): string;
  query(sql: string): Promise<Record<string, unknown>[]>;
}

export async function startDeadLetterStage(
  clickhouse: TestClickHouse,
  database: string,
  settings: Partial<IngressConfig> = {},
): Promise<DeadLetterStage> {
  await using stack = new AsyncDisposableStack();
  await clickhouse.migrate(database);
  const warehouse = clickhouse.warehouse(database);
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-letters-"));
  stack.defer(() => rm(dataDir, { recursive: true, force: true }));
  const log = await createSqliteLog({ file: join(dataDir, "log.sqlite") });
  stack.use(log);
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  const epoch = (await log.epoch()) ?? "";
  const logger = pino({ level: "silent" });
  const parsed = parseConfig(z.object(ingressSettings), { argv: [], env: {}, command: "test", summary: "" });
  if (parsed.kind !== "config") throw new Error(parsed.text);
  const config = { ...parsed.config, host: "127.0.0.1", port: 0, ...settings };
  const gateway = stack.use(await startGateway(config, { log, registry: new Registry(), logger }));
  const gatewayUrl = `http://127.0.0.1:${gateway.port}`;
  const env = {
    DATA_DIR: dataDir,
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_DATABASE: database,
    MILLRACE_URL: gatewayUrl,
  };

  let consumer: AsyncDisposable | undefined;
  const stopConsumer = async () => {
    await consumer?.[Symbol.asyncDispose]();
    consumer = undefined;
  };
  stack.defer(stopConsumer);
  const end = async () => (await log.bounds(EVENTS_TOPIC))[0]?.end ?? 0;
  const drained = async () => {
    const wanted = await end();
    await until(async () => {
      const commit = (await log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0);
      return commit?.offset === wanted && !commit.metadata.includes('"to"');
    }, `offset ${wanted} is committed`);
  };
  const owned = stack.move();
  return {
    ...{ log, warehouse, epoch, gatewayUrl, env, stopConsumer, drained, end },
    async append(...records) {
      await log.append(EVENTS_TOPIC, records);
      if (consumer) await drained();
    },
    startConsumer() {
      consumer ??= startConsumer(BATCHES, {
        kinds: [EVENTS, POINTS],
        log,
        warehouse,
        registry: new Registry(),
        logger,
      });
    },
    async recordAt(offset) {
      const read = { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: 1000 };
      const [record] = await log.tail(EVENTS_TOPIC, 0, read);
      if (!record) throw new Error(`no record at ${offset}`);
      return decodeRecord(record.value);
    },
    run: (...args) => runDeadLetters(args, env),
    nameOf: (offset) => `${epoch.slice(0, 8)}:${EVENTS_TOPIC}:0:${offset}`,
    query: (sql) => warehouse.query(sql),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** `millrace dead-letters <args>`, in this process: starting one takes longer than what most tests ask of it. */
export async function runDeadLetters(args: readonly string[], env: Record<string, string>): Promise<Finished> {
  const { code, out, err } = await callCommand(main, args, env);
  return { code, stdout: out, stderr: err };
}

/** A record that every gateway refuses and that `--set value=…` makes whole. */
export function valuelessRecord(fields: Parameters<typeof eventRecord>[0] = {}): AppendRecord {
  return eventRecord({ value: Number.NaN, ...fields });
}
