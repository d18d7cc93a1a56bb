// ClickHouse's process is gone for a while, under load, with gateway and consumer as processes of their own on Kafka.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { runPacedLoad } from "../kit/paced-load.ts";
import { atMost, patience } from "../kit/patience.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { until } from "../kit/until.ts";

/** MILLRACE_OUTAGE_SECONDS=60 is the long form, with twice as many events a second. */
const OUTAGE_SECONDS = Number(process.env.MILLRACE_OUTAGE_SECONDS ?? 10);
const EVENTS_PER_SECOND = OUTAGE_SECONDS > 30 ? 2000 : 1000;
const RSS_MB_MAX = 400;
const choice = kafkaForTests();

it.skipIf(!choice.available)(
  `ClickHouse gone for ${OUTAGE_SECONDS} s under load: every event is accepted, the lag grows, all is stored within seconds`,
  async () => {
    if (!choice.available) return;
    await using stack = new AsyncDisposableStack();
    const { brokers } = stack.use(await choice.start());
    const dataDir = await mkdtemp(join(tmpdir(), "millrace-outage-"));
    stack.defer(() => rm(dataDir, { recursive: true, force: true }));
    const startServer = (port: string) =>
      stack.use(spawnMillrace(["clickhouse"], { DATA_DIR: dataDir, CLICKHOUSE_HTTP_PORT: port }));
    const server = startServer("0");
    const { url } = (await server.logged("ClickHouse endpoint is ready")) as { url?: string };
    const clickhousePort = new URL(url as string).port;
    const env = {
      ...{ KAFKA_BROKERS: brokers.join(","), KAFKA_PARTITIONS: "6", CLICKHOUSE_URL: url as string },
      ...{ HOST: "127.0.0.1", PORT: "0", CONSUMER_PORT: "0" },
    };
    expect(await spawnMillrace(["migrate"], env).exited).toBe(0);
    const gateway = stack.use(spawnMillrace(["gateway"], env));
    const consumer = stack.use(spawnMillrace(["consumer"], env));
    const { port } = await gateway.logged("gateway listening");
    const health = `http://127.0.0.1:${(await consumer.logged("health and metrics are served")).port}`;
    await consumer.logged("partition assigned");
    const rows = createClickHouseWarehouse({ url: url as string, user: "default", password: "", database: "millrace" });
    stack.use(rows);

    const load = runPacedLoad({
      url: `http://127.0.0.1:${port}`,
      eventsPerSecond: EVENTS_PER_SECOND,
      seconds: OUTAGE_SECONDS + 4,
    });
    await until(async () => (await countRows(rows)) > 0, "rows land");
    await server.stop("SIGKILL");
    const gone = performance.now();
    const lags: number[] = [];
    let notReady = "";
    while (performance.now() - gone < OUTAGE_SECONDS * 1000) {
      await pause((OUTAGE_SECONDS * 1000) / 4);
      lags.push(await lagOf(health));
      const readiness = await fetch(`${health}/readyz`);
      if (readiness.status === 503) notReady = await readiness.text();
    }
    expect(lags).toEqual([...lags].sort((a, b) => a - b));
    expect(lags.at(-1)).toBeGreaterThan((EVENTS_PER_SECOND * OUTAGE_SECONDS) / 2);
    expect(notReady).toMatch(/ClickHouse cannot be used since 20.*ECONNREFUSED/);

    await startServer(clickhousePort).logged("ClickHouse endpoint is ready");
    const returned = performance.now();
    const stored = await countRows(rows);
    await until(async () => (await countRows(rows)) > stored, "rows land again");
    const recoveredMs = performance.now() - returned;
    const { acked, retriedRequests } = await load;
    await until(async () => (await countRows(rows)) === acked.size, "everything is stored", patience(60_000));
    const drainedMs = performance.now() - returned;
    await until(async () => (await lagOf(health)) === 0, "the lag is gone");
    expect((await fetch(`${health}/readyz`)).status).toBe(200);
    const verify = spawnMillrace(["verify"], env);
    expect(await verify.exited, verify.lines.join("\n")).toBe(0);
    const rssMb = await highestRssMb(consumer);
    const report = { outageSeconds: OUTAGE_SECONDS, acked: acked.size, lags, recoveredMs, drainedMs, rssMb };
    process.stdout.write(`${JSON.stringify(report)}\n`);
    expect(retriedRequests).toBe(0);
    expect(recoveredMs).toBeLessThan(atMost(5000));
    expect(rssMb).toBeLessThan(RSS_MB_MAX);
  },
  300_000,
);

async function countRows(of: Warehouse): Promise<number> {
  const [row] = await of.query<{ n: string }>("SELECT count() AS n FROM events_raw");
  return Number(row?.n);
}

/** Over all partitions. */
async function lagOf(health: string): Promise<number> {
  const text = await (await fetch(`${health}/metrics`)).text();
  const values = [...text.matchAll(/^millrace_lag_records\{[^}]*\} (\d+)$/gm)].map(([, value]) => Number(value));
  return values.reduce((sum, value) => sum + value, 0);
}

/** The most it has ever had. */
async function highestRssMb({ pid }: Spawned): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
}
