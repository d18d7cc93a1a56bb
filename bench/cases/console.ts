// How fast `millrace start` answers the console's questions at ten million events of a million people, Where among them, and
// what a console that is left open costs it.
import { setTimeout as sleep } from "node:timers/promises";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startClickHouse } from "../../services/clickhouse/app.ts";
import { type RunningStandalone, startStandalone } from "../../test/kit/standalone.ts";
import { CaseFailedError, expectCounted, type Result, type Setting, type Spread } from "../result.ts";
import { countRows, makeScratch } from "../stores.ts";
import { type Filled, fillConsole, type Sizes } from "./console-data.ts";
import { measureIdlePage } from "./console-page.ts";
import { type Call, questionsOf } from "./console-queries.ts";

const QUERY_MS_LIMIT = 300;
const WHERE_MS_LIMIT = 100;
const IDLE_SHARE_LIMIT = 1;
const MERGES_MS_MAX = 120_000;
const KEY = "sk_bench";
const SIZES: Sizes = { events: 10_000_000, people: 1_000_000, pointDays: 30 };
const QUICK_SIZES: Sizes = { events: 30_000, people: 3_000, pointDays: 1 };
const MIGRATIONS = new URL("../../migrations", import.meta.url).pathname;

export async function measureConsole(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const begun = performance.now();
  const filled = await fill(dataDir, setting.quick ? QUICK_SIZES : SIZES, setting);
  const standalone = stack.use(await startStandalone({ dataDir, env: { SECRET_API_KEYS: KEY } }));
  await merged(standalone, setting);
  const spreads = await askAll(standalone, filled, setting);
  const rows = Number(await standalone.query("SELECT count() FROM millrace.events_raw"));
  expectCounted(filled.events, rows);
  const idle = await measureIdlePage(standalone, { key: KEY, seconds: setting.quick ? 2 : 40 }, setting);
  const questions = Object.entries(spreads).filter(([name]) => !name.startsWith("view "));
  const slowestOf = (all: [string, Spread][]) => all.toSorted(([, a], [, b]) => b.p99 - a.p99)[0];
  const slowest = slowestOf(questions.filter(([name]) => !name.startsWith("where")));
  const where = slowestOf(questions.filter(([name]) => /^where, \D/.test(name)));
  return {
    name: `console, ${(rows / 1e6).toFixed(1)} M events of ${(filled.people / 1e6).toFixed(1)} M people`,
    ...{ events: filled.events, acked: filled.events, rows, seconds: (performance.now() - begun) / 1000, spreads },
    targets: setting.quick
      ? []
      : [
          {
            what: `slowest question p99 (${slowest?.[0]}), ms`,
            measured: slowest?.[1].p99 ?? 0,
            limit: QUERY_MS_LIMIT,
          },
          { what: `where of one, p99 (${where?.[0]}), ms`, measured: where?.[1].p99 ?? 0, limit: WHERE_MS_LIMIT },
          { what: "Overview in front, % of a core beyond none", measured: idle.front, limit: IDLE_SHARE_LIMIT },
          { what: "in the background, % of a core beyond none", measured: idle.hidden, limit: IDLE_SHARE_LIMIT },
        ],
    note: `${questions.length} questions; ${idle.note}`,
  };
}

/** In the standalone's own directory, by its endpoint alone. */
export async function fill(dataDir: string, sizes: Sizes, setting: Setting): Promise<Filled> {
  await using endpoint = await startClickHouse({ host: "127.0.0.1", port: 0, dataDir, user: "default", password: "" });
  const connection = { url: endpoint.url, user: "default", password: "" };
  await migrate({ connection, database: "millrace", directory: MIGRATIONS });
  await using warehouse: Warehouse = createClickHouseWarehouse({
    ...{ ...connection, database: "millrace", requestTimeoutMs: 600_000 },
  });
  const filled = await fillConsole(warehouse, sizes, setting);
  expectCounted(filled.events, await countRows(warehouse));
  return filled;
}

/** A month's parts come in a month, and not in the minutes before the questions. */
async function merged({ query }: RunningStandalone, setting: Setting): Promise<void> {
  for (const deadline = performance.now() + MERGES_MS_MAX; ; await sleep(1000)) {
    setting.signal.throwIfAborted();
    const merges = await query("SELECT count() FROM system.merges");
    if (merges === "0" || performance.now() > deadline) return;
    setting.progress(`${merges} merges are under way`);
  }
}

/** All questions of the page in turn, so many rounds. */
async function askAll({ statsUrl }: RunningStandalone, filled: Filled, setting: Setting) {
  const questions = questionsOf(filled);
  const times = new Map<string, number[]>(questions.map(({ name }) => [name, []]));
  const rounds = setting.quick ? 2 : 50;
  for (let round = 0; round <= rounds; round++) {
    setting.progress(`questions, round ${round} of ${rounds}`);
    for (const { name, calls } of questions) {
      setting.signal.throwIfAborted();
      const asked = calls();
      const begun = performance.now();
      await Promise.all(asked.map((call) => answered(statsUrl, call)));
      // The first round warms up.
      if (round > 0) times.get(name)?.push(performance.now() - begun);
    }
  }
  return Object.fromEntries([...times].map(([name, all]) => [name, spreadOf(all)]));
}

function spreadOf(times: number[]): Spread {
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.ceil(share * times.length) - 1] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

async function answered(statsUrl: string, { method, body }: Call): Promise<void> {
  const answer = await fetch(`${statsUrl}/millrace.stats.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  if (answer.status === 200) return;
  throw new CaseFailedError(`${method} ${JSON.stringify(body).slice(0, 200)}: ${answer.status}: ${text.slice(0, 300)}`);
}
