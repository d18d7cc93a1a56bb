// The cases. Each ends with a count of rows; one whose count differs from what was acknowledged throws.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka.ts";
import type { EventLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../test/support/clickhouse.ts";
import { kafkaForTests } from "../test/support/kafka.ts";
import { spawnMillrace } from "../test/support/processes.ts";
import type { LoadOrder, LoadResult } from "./load.ts";
import { startMeasured } from "./meter.ts";
import { preload } from "./preload.ts";
import { type Latencies, probe } from "./probe.ts";
import { KINDS, type Kind } from "./requests.ts";
import { runLoad } from "./run-load.ts";

export interface Result {
  name: string;
  /** Events acknowledged within the measured time. */
  acked: number;
  /** Counted on the log or in ClickHouse. */
  rows: number;
  seconds: number;
  /** Of the process under test. */
  cpuUsPerEvent?: number;
  rssMaxMb?: number;
  /** What it should be, and what else was seen. */
  note: string;
}

export interface Setting {
  quick: boolean;
  progress(text: string): void;
}

const silent = pino({ level: "silent" });
const EVENTS_PER_REQUEST = 100;
const PARTITIONS = 6;

export const CASES: Record<string, (setting: Setting) => Promise<Result[]>> = {
  "gateway-sqlite": (setting) => gatewayCases("sqlite", setting),
  "gateway-kafka": (setting) => gatewayCases("kafka", setting),
  overload: overloadCase,
  consumer: consumerCase,
  path: pathCases,
  standalone: standaloneCase,
};

const TARGETS: Partial<Record<Kind, string>> = {
  "connect-protobuf": "target 12 on Kafka",
  "connect-struct": "target 18 on Kafka",
};

async function gatewayCases(kind: "sqlite" | "kafka", setting: Setting): Promise<Result[]> {
  await using target = await startLog(kind);
  const results: Result[] = [];
  for (const dialect of KINDS) {
    setting.progress(`gateway, ${dialect} on ${kind}`);
    results.push(await gatewayCase(target, dialect, setting, `gateway ${dialect} on ${kind}`));
  }
  return results;
}

async function gatewayCase(target: LogTarget, kind: Kind, setting: Setting, name: string): Promise<Result> {
  await using gateway = await startMeasured("gateway-process.ts", [target.address]);
  const seconds = setting.quick ? 1 : 8;
  const order: LoadOrder = {
    port: Number(gateway.details.port),
    kind,
    seconds,
    connections: 16,
    eventsPerRequest: EVENTS_PER_REQUEST,
  };
  await runLoad({ ...order, seconds: setting.quick ? 0.5 : 3 });
  const rowsBefore = await target.count();
  const before = await gateway.read();
  const load = await runLoad(order);
  const after = await gateway.read();
  const rows = (await target.count()) - rowsBefore;
  expectEqual(name, load.acked, rows);
  return {
    name,
    acked: load.acked,
    rows,
    seconds,
    cpuUsPerEvent: (after.cpuUs - before.cpuUs) / rows,
    rssMaxMb: after.rssMax / 2 ** 20,
    note: [TARGETS[kind], statusesOf(load)].filter(Boolean).join("; "),
  };
}

async function overloadCase(setting: Setting): Promise<Result[]> {
  await using target = await startLog("kafka");
  await using gateway = await startMeasured("gateway-process.ts", [target.address]);
  setting.progress("gateway under overload: 100 connections with 2 MB bodies");
  const seconds = setting.quick ? 3 : 15;
  const port = Number(gateway.details.port);
  const load = await runLoad({
    port,
    kind: "connect-protobuf",
    seconds,
    connections: 100,
    eventsPerRequest: 7000,
    chunked: true,
  });
  const { rssMax } = await gateway.read();
  const rows = await target.count();
  expectEqual("overload", load.acked, rows);
  const ready = await fetch(`http://127.0.0.1:${port}/readyz`);
  if (ready.status !== 200) throw new Error(`not ready after overload: ${await ready.text()}`);
  return [
    {
      name: "gateway overload",
      acked: load.acked,
      rows,
      seconds,
      rssMaxMb: rssMax / 2 ** 20,
      note: `target RSS < 300 MB; ${statusesOf(load)}`,
    },
  ];
}

async function consumerCase(setting: Setting): Promise<Result[]> {
  const records = setting.quick ? 50_000 : 1_000_000;
  await using stack = new AsyncDisposableStack();
  const target = stack.use(await startLog("kafka"));
  const clickhouse = stack.use(await startTestClickHouse());
  await prepareStores(target.broker, clickhouse.url);
  setting.progress(`consumer: putting ${records} records on the log`);
  await preload(target.log, records);
  const warehouse = clickhouse.warehouse("millrace");
  setting.progress(`consumer: draining ${records} records`);
  const begun = performance.now();
  await using consumer = await startMeasured("consumer-process.ts", [target.broker, clickhouse.url]);
  const before = await consumer.read();
  await rowsReach(warehouse, records, setting);
  const after = await consumer.read();
  const seconds = (performance.now() - begun) / 1000;
  const rows = await countRows(warehouse);
  expectEqual("consumer", records, rows);
  const cpuUsPerEvent = (after.cpuUs - before.cpuUs) / rows;
  return [
    {
      name: "consumer drain",
      acked: records,
      rows,
      seconds,
      cpuUsPerEvent,
      rssMaxMb: after.rssMax / 2 ** 20,
      note: "target 8, engine excluded",
    },
  ];
}

/** Gateway, consumer, broker, ClickHouse and load on the same machine, at a given rate. */
async function pathCases(setting: Setting): Promise<Result[]> {
  const results: Result[] = [];
  for (const eventsPerSecond of [40_000, 20_000]) {
    await using stack = new AsyncDisposableStack();
    const target = stack.use(await startLog("kafka"));
    const clickhouse = stack.use(await startTestClickHouse());
    await prepareStores(target.broker, clickhouse.url);
    const env = serviceEnv(target.broker, clickhouse.url);
    const gateway = stack.use(spawnMillrace(["gateway"], env));
    const consumer = stack.use(spawnMillrace(["consumer"], env));
    const port = Number((await gateway.logged("gateway listening")).port);
    await consumer.logged("partition assigned");
    const warehouse = clickhouse.warehouse("millrace");
    const seconds = setting.quick ? 3 : 30;
    const order = { port, kind: "connect-protobuf" as const, connections: 16, eventsPerRequest: EVENTS_PER_REQUEST };
    const warmUp = await runLoad({ ...order, seconds: 3, eventsPerSecond: 10_000 });
    setting.progress(`whole path at ${eventsPerSecond} events/s for ${seconds} s`);
    const probing = probe(`http://127.0.0.1:${port}`, warehouse, seconds);
    const load = await runLoad({ ...order, seconds, eventsPerSecond });
    const latencies = await probing;
    const acked = load.acked + warmUp.acked + latencies.sent;
    const ended = performance.now();
    await rowsReach(warehouse, acked, setting);
    const drainSeconds = (performance.now() - ended) / 1000;
    const rows = await countRows(warehouse);
    expectEqual("whole path", acked, rows);
    const verify = spawnMillrace(["verify"], env);
    if ((await verify.exited) !== 0) throw new Error(verify.lines.join("\n"));
    results.push({
      name: `whole path at ${eventsPerSecond}/s`,
      acked,
      rows,
      seconds: seconds + 3,
      note: `${Math.round(load.acked / seconds)} events/s acked, drained ${drainSeconds.toFixed(1)} s later, verify 0; ${describe(latencies)}`,
    });
  }
  return results;
}

async function standaloneCase(setting: Setting): Promise<Result[]> {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(dataDir, { recursive: true, force: true }));
  const ports = ["--port", "0", "--clickhouse-http-port", "0", "--data-dir", dataDir];
  const standalone = stack.use(spawnMillrace(["start", ...ports]));
  const port = Number((await standalone.logged("gateway listening")).port);
  await standalone.logged("partition assigned");
  const url = standalone.lines.join("\n").match(/ClickHouse {2}(http:\/\/\S+)/)?.[1];
  if (!url) throw new Error("the standalone did not print ClickHouse's address");
  setting.progress("standalone: socket to row in one command");
  const seconds = setting.quick ? 2 : 10;
  const begun = performance.now();
  const load = await runLoad({
    port,
    kind: "connect-protobuf",
    seconds,
    connections: 8,
    eventsPerRequest: EVENTS_PER_REQUEST,
  });
  const warehouse = stack.adopt(await connect(url), (one) => one.close());
  await rowsReach(warehouse, load.acked, setting);
  const elapsed = (performance.now() - begun) / 1000;
  const rows = await countRows(warehouse);
  expectEqual("standalone", load.acked, rows);
  return [
    {
      name: "standalone",
      acked: load.acked,
      rows,
      seconds: elapsed,
      note: `until the last row was there; ${statusesOf(load)}`,
    },
  ];
}

async function connect(url: string): Promise<Warehouse> {
  const { createClickHouseWarehouse } = await import("#lib/warehouse/clickhouse.ts");
  return createClickHouseWarehouse({ url, user: "default", password: "", database: "millrace" });
}

interface LogTarget extends AsyncDisposable {
  /** As gateway-process.ts takes it. */
  address: string;
  broker: string;
  log: EventLog;
  /** Records on the topic, by its end offsets. */
  count(): Promise<number>;
}

async function startLog(kind: "sqlite" | "kafka"): Promise<LogTarget> {
  await using stack = new AsyncDisposableStack();
  let address: string;
  let broker = "";
  let log: EventLog;
  if (kind === "kafka") {
    const choice = kafkaForTests();
    if (!choice.available) throw new Error(choice.reason);
    broker = stack.use(await choice.start()).brokers[0] as string;
    address = `kafka:${broker}`;
    log = createKafkaLog({ brokers: [broker], clientId: "bench", logger: silent });
    stack.defer(() => log.close());
  } else {
    const directory = await mkdtemp(join(tmpdir(), "millrace-bench-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const file = join(directory, "log.sqlite");
    address = `sqlite:${file}`;
    // Made here so that it can be opened for counting; the process under test then owns it.
    const made = await createSqliteLog({ file });
    await made.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
    await made.close();
    log = await createSqliteLog({ file, readOnly: true });
    stack.defer(() => log.close());
  }
  const owned = stack.move();
  return {
    address,
    broker,
    log,
    async count() {
      const bounds = await log.bounds(EVENTS_TOPIC);
      return bounds.reduce((sum, { start, end }) => sum + end - start, 0);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function serviceEnv(broker: string, clickhouseUrl: string): Record<string, string> {
  return {
    KAFKA_BROKERS: broker,
    KAFKA_PARTITIONS: String(PARTITIONS),
    CLICKHOUSE_URL: clickhouseUrl,
    HOST: "127.0.0.1",
    PORT: "0",
    CONSUMER_PORT: "0",
  };
}

async function prepareStores(broker: string, clickhouseUrl: string): Promise<void> {
  const migrate = spawnMillrace(["migrate"], serviceEnv(broker, clickhouseUrl));
  if ((await migrate.exited) !== 0) throw new Error(migrate.lines.join("\n"));
}

async function countRows(warehouse: Warehouse): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM events_raw");
  return Number(row?.n);
}

async function rowsReach(warehouse: Warehouse, expected: number, setting: Setting): Promise<void> {
  const deadline = performance.now() + 180_000;
  for (;;) {
    const rows = await countRows(warehouse);
    if (rows >= expected) return;
    if (performance.now() > deadline) throw new Error(`${rows} of ${expected} rows after 180 s`);
    setting.progress(`${rows} of ${expected} rows`);
    await sleep(200);
  }
}

function expectEqual(name: string, acked: number, rows: number): void {
  if (acked === 0) throw new Error(`${name}: nothing was acknowledged`);
  if (acked !== rows) throw new Error(`${name}: ${acked} events acknowledged, ${rows} rows counted`);
}

function statusesOf({ statuses }: LoadResult): string {
  return `answers ${Object.entries(statuses)
    .map(([status, count]) => `${status}: ${count}`)
    .join(", ")}`;
}

function describe({ p50Ms, p99Ms, maxMs, sent }: Latencies): string {
  return `socket to queryable p50 ${p50Ms} ms, p99 ${p99Ms} ms, max ${maxMs} ms (${sent} probes; target p99 < 2 s at 20000/s)`;
}
