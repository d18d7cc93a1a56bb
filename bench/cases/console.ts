// How fast the console's questions are answered at ten million events of a million people, Where among them.
import { pino } from "pino";
import { Registry } from "prom-client";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { ALERTS_TOPIC, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startClickHouse } from "../../services/clickhouse/app.ts";
import { startStats } from "../../services/stats/app.ts";
import { statsSettings } from "../../services/stats/config.ts";
import { defaultsOf } from "../defaults.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { countRows, makeScratch } from "../stores.ts";
import { type Filled, fillConsole } from "./console-data.ts";
import { type Question, questionsOf } from "./console-queries.ts";

const QUERY_MS_LIMIT = 300;
const WHERE_MS_LIMIT = 100;
const SLOWEST_SHOWN = 5;
const MIGRATIONS = new URL("../../migrations", import.meta.url).pathname;

interface Times {
  name: string;
  p50: number;
  p99: number;
}

export async function measureConsole(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const endpoint = await startClickHouse({ host: "127.0.0.1", port: 0, dataDir, user: "default", password: "" });
  stack.use(endpoint);
  const connection = { url: endpoint.url, user: "default", password: "" };
  await migrate({ connection, database: "bench", directory: MIGRATIONS });
  const warehouse = createClickHouseWarehouse({ ...connection, database: "bench", requestTimeoutMs: 600_000 });
  stack.use(warehouse);
  const begun = performance.now();
  const filled = await fillConsole(warehouse, setting);
  const times = await askConsole(warehouse, filled, setting);
  const rows = await countRows(warehouse);
  expectCounted(filled.events, rows);
  const slowest = times.toSorted((a, b) => b.p99 - a.p99);
  const ofWhere = slowest.filter(({ name }) => name.startsWith("where"));
  return {
    name: `console, ${(rows / 1e6).toFixed(1)} M events of ${(filled.people / 1e6).toFixed(1)} M people`,
    ...{ events: filled.events, acked: filled.events, rows, seconds: (performance.now() - begun) / 1000 },
    targets: setting.quick
      ? []
      : [
          {
            what: `slowest question p99 (${slowest[0]?.name}), ms`,
            measured: slowest[0]?.p99 ?? 0,
            limit: QUERY_MS_LIMIT,
          },
          { what: "where p99, ms", measured: ofWhere[0]?.p99 ?? 0, limit: WHERE_MS_LIMIT },
        ],
    note: `${times.length} questions; slowest by p99, p50/p99 ms: ${[...slowest.slice(0, SLOWEST_SHOWN), ...ofWhere].map(inMs).join("; ")}`,
  };
}

/** All questions of the page in turn, so many rounds. */
export async function askConsole(warehouse: Warehouse, filled: Filled, setting: Setting): Promise<Times[]> {
  await using stack = new AsyncDisposableStack();
  const log = await createSqliteLog({ file: ":memory:" });
  stack.use(log);
  await log.createTopics([EVENTS_TOPIC, POINTS_TOPIC, ALERTS_TOPIC].map((topic) => ({ topic, partitions: 1 })));
  const config = { ...defaultsOf(statsSettings), host: "127.0.0.1", statsPort: 0, stopTimeout: 1_000 };
  const parts = { log, warehouse, registry: new Registry(), logger: pino({ level: "silent" }) };
  const stats = stack.use(await startStats(config, parts));
  const base = `http://127.0.0.1:${stats.port}/millrace.stats.v1.`;
  const questions = questionsOf(filled);
  const times = new Map<string, number[]>(questions.map(({ name }) => [name, []]));
  const rounds = setting.quick ? 2 : 100;
  for (let round = 0; round <= rounds; round++) {
    setting.progress(`questions, round ${round} of ${rounds}`);
    for (const question of questions) {
      setting.signal.throwIfAborted();
      const ms = await timeOf(base, question);
      // The first round warms up.
      if (round > 0) times.get(question.name)?.push(ms);
    }
  }
  return [...times].map(([name, all]) => {
    all.sort((a, b) => a - b);
    const at = (share: number) => all[Math.ceil(share * all.length) - 1] ?? Number.NaN;
    return { name, p50: at(0.5), p99: at(0.99) };
  });
}

async function timeOf(base: string, { name, method, body }: Question): Promise<number> {
  const begun = performance.now();
  const answer = await fetch(base + method, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body()),
  });
  const text = await answer.text();
  const ms = performance.now() - begun;
  if (answer.status !== 200) throw new CaseFailedError(`${name} was answered ${answer.status}: ${text.slice(0, 300)}`);
  return ms;
}

function inMs({ name, p50, p99 }: Times): string {
  return `${name} ${p50.toFixed(0)}/${p99.toFixed(0)}`;
}
