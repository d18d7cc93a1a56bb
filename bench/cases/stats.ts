// How fast the history API answers over a week of points: a million and a half a day, rolled up as the consumer does it.
import { pino } from "pino";
import { Registry } from "prom-client";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { slotOf } from "#lib/points/slots.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type ClickHouseEndpoint, startClickHouse } from "../../services/clickhouse/app.ts";
import { startStats } from "../../services/stats/app.ts";
import { statsSettings } from "../../services/stats/config.ts";
import { defaultsOf } from "../defaults.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { makeScratch } from "../stores.ts";
import { fillPoints, HOSTS, insertPolls, METRICS } from "./points-data.ts";

const POLL_MS = 60_000;
const LATEST_MS_LIMIT = 50;
const HOURLY_MS_LIMIT = 200;
const MIGRATIONS = new URL("../../migrations", import.meta.url).pathname;

interface Times {
  /** Of the first question after the endpoint was started. */
  cold: number;
  p50: number;
  p99: number;
}

export async function measureStats(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const days = setting.quick ? 1 : 7;
  const begun = performance.now();
  const filled = await withEndpoint(dataDir, (warehouse, endpoint) => fill(warehouse, endpoint, days, setting));
  // A process that has answered nothing yet; the pages of its files may still be in the system's cache.
  const asked = await withEndpoint(dataDir, (warehouse) => ask(warehouse, days, setting));
  expectCounted(filled.points + asked.fresh, asked.rows);
  const { latest, hourly, oneHost, daily } = asked;
  return {
    name: `stats, ${(filled.points / 1e6).toFixed(1)} M points of ${HOSTS * METRICS} series in ${days} d`,
    events: filled.points + asked.fresh,
    acked: filled.points + asked.fresh,
    rows: asked.rows,
    seconds: (performance.now() - begun) / 1000,
    targets: setting.quick
      ? []
      : [
          { what: "/latest p99, ms", measured: latest.p99, limit: LATEST_MS_LIMIT },
          { what: `/hourly over ${days} d p99, ms`, measured: hourly.p99, limit: HOURLY_MS_LIMIT },
        ],
    note: `cold/p50/p99 ms: /latest ${inMs(latest)}, /hourly ${inMs(hourly)}, of one host ${inMs(oneHost)}, /daily ${inMs(daily)}; roll-up ${(filled.rolled / 1e6).toFixed(1)} M rows, ${filled.slotMs.toFixed(0)} ms a slot`,
  };
}

async function withEndpoint<T>(
  dataDir: string,
  work: (warehouse: Warehouse, endpoint: ClickHouseEndpoint) => Promise<T>,
): Promise<T> {
  await using endpoint = await startClickHouse({ host: "127.0.0.1", port: 0, dataDir, user: "default", password: "" });
  const warehouse = createClickHouseWarehouse({
    ...{ url: endpoint.url, user: "default", password: "", database: "bench", requestTimeoutMs: 600_000 },
  });
  try {
    return await work(warehouse, endpoint);
  } finally {
    await warehouse[Symbol.asyncDispose]();
  }
}

/** Points of each poll until now, those of closed slots rolled up. */
async function fill(warehouse: Warehouse, { url }: ClickHouseEndpoint, days: number, setting: Setting) {
  await migrate({ connection: { url, user: "default", password: "" }, database: "bench", directory: MIGRATIONS });
  const { slotMs } = await fillPoints(warehouse, { endMs: slotOf(Date.now()), days, pollMs: POLL_MS }, setting);
  return { points: await count(warehouse, "points"), rolled: await count(warehouse, "points_5m"), slotMs };
}

async function ask(warehouse: Warehouse, days: number, setting: Setting) {
  await using stack = new AsyncDisposableStack();
  const log = await createSqliteLog({ file: ":memory:" });
  stack.use(log);
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  const config = { ...defaultsOf(statsSettings), host: "127.0.0.1", statsPort: 0, stopTimeout: 1_000 };
  const logger = pino({ level: "silent" });
  const stats = stack.use(await startStats(config, { log, warehouse, registry: new Registry(), logger }));
  const base = `http://127.0.0.1:${stats.port}`;
  const rounds = setting.quick ? 20 : 300;
  const time = (paths: (i: number) => string) => timeRequests(base, paths, rounds, setting);
  setting.progress("hourly");
  const hourly = await time((i) => `/hourly/metric_${i % METRICS}?start=${days}d&verb=${i % 2 ? "max" : "mean"}`);
  const oneHost = await time((i) => `/hourly/metric_${i % METRICS}?start=${days}d&host=host-${i % HOSTS}`);
  const daily = await time((i) => `/daily/metric_${i % METRICS}?start=${days}d`);
  // What hosts have said since then: the last three polls.
  const polls = 3;
  await insertPolls(warehouse, Math.floor(Date.now() / POLL_MS - polls + 1) * POLL_MS, polls, POLL_MS);
  setting.progress("latest");
  const latest = await time((i) => `/latest/metric_${i % METRICS}?host=host-${i % HOSTS}`);
  return { latest, hourly, oneHost, daily, fresh: polls * HOSTS * METRICS, rows: await count(warehouse, "points") };
}

async function timeRequests(
  base: string,
  pathOf: (i: number) => string,
  rounds: number,
  setting: Setting,
): Promise<Times> {
  const times: number[] = [];
  for (let i = 0; i <= rounds; i++) {
    setting.signal.throwIfAborted();
    const begun = performance.now();
    const answer = await fetch(base + pathOf(i));
    const body = await answer.text();
    times.push(performance.now() - begun);
    if (answer.status !== 200) throw new CaseFailedError(`${pathOf(i)} answered ${answer.status}: ${body}`);
  }
  const [cold = Number.NaN, ...warm] = times;
  warm.sort((a, b) => a - b);
  const at = (share: number) => warm[Math.ceil(share * warm.length) - 1] ?? Number.NaN;
  return { cold, p50: at(0.5), p99: at(0.99) };
}

async function count(warehouse: Warehouse, table: "points" | "points_5m"): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>(`SELECT count() AS n FROM ${table}`);
  return Number(row?.n);
}

function inMs({ cold, p50, p99 }: Times): string {
  return [cold, p50, p99].map((ms) => ms.toFixed(0)).join("/");
}
