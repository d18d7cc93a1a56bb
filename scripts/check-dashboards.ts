// `npm run check:dashboards`: a standalone under load, a real Prometheus that reads it, and then every query of every
// dashboard and every alert rule, asked as Grafana and Prometheus ask them. None may fail, be empty, or name what is not
// there; no alert may fire. Ends by itself within a minute. With --record the result is kept in bench/results/.
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { interpolate, type Query, queriesOf, readDashboards, type TimeRange } from "../test/kit/dashboards.ts";
import { prometheusForTests } from "../test/kit/prometheus.ts";
import { parseExpression } from "../test/kit/promql.ts";
import { runLoad } from "./dashboards/load.ts";
import { type Millrace, SCRAPE_SECONDS, startAgent, startMillrace, startPrometheus } from "./dashboards/stack.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const LOAD_SECONDS = 18;
const SECONDS_MAX = 60;
/** Whatever is asked later than this fails. */
const overdue = AbortSignal.timeout(SECONDS_MAX * 1000);
const HOUR_SECONDS = 3600;
/** A slot is closed, and counted for the first time, five minutes after it began. */
const ABSENT_AT_FIRST = new Set(["millrace_rollup_slots_total", "millrace_rollup_late_slots_total"]);
/** A metric that does not exist: a check that misses it would find nothing. */
const MISSPELT: Query = { dashboard: "", panel: "", language: "promql", text: "millrace_row_stored_total", legend: "" };

interface Asked {
  what: string;
  /** Undefined: as it should be. */
  fault: string | undefined;
}

interface Vector {
  metric: Record<string, string>;
  values: [number, string][];
}

interface RuleState {
  name: string;
  query: string;
  health: string;
  lastError?: string;
  state: string;
}

async function prometheusAnswer<T>(url: string, path: string, params: Record<string, string>): Promise<T> {
  const answer = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(params)}`, { signal: overdue });
  const { status, error, data } = (await answer.json()) as { status: string; error?: string; data: T };
  if (status !== "success") throw new Error(error ?? `Prometheus answered ${answer.status}`);
  return data;
}

/** Names in an expression of which Prometheus has no series. */
async function unknownMetrics(url: string, expression: string): Promise<string[]> {
  const named = new Set(parseExpression(expression).selectors.map(({ metric }) => metric));
  const names = [...named].filter((name) => !ABSENT_AT_FIRST.has(name));
  const found = await Promise.all(
    names.map((name) => prometheusAnswer<unknown[]>(url, "series", { "match[]": name }).then(({ length }) => length)),
  );
  return names.filter((_, index) => found[index] === 0);
}

async function promqlFault(url: string, query: Query, range: TimeRange): Promise<string | undefined> {
  const text = interpolate(query, range);
  const unknown = await unknownMetrics(url, text);
  if (unknown.length > 0) return `no series of ${unknown.join(", ")}`;
  const { from, to, step } = range;
  const times = { start: String(from), end: String(to), step: String(step) };
  const { result } = await prometheusAnswer<{ result: Vector[] }>(url, "query_range", { query: text, ...times });
  const hasNumber = result.some(({ values }) => values.some(([, value]) => Number.isFinite(Number(value))));
  return hasNumber ? undefined : "empty";
}

async function sqlFault({ clickhouseUrl }: Millrace, query: Query, range: TimeRange): Promise<string | undefined> {
  const hour = { ...range, from: range.to - HOUR_SECONDS, to: range.to + 1 };
  const sql = `${interpolate(query, hour, ["load"])} FORMAT JSONCompactEachRow`;
  const answer = await fetch(`${clickhouseUrl}/?database=millrace`, { method: "POST", body: sql, signal: overdue });
  const text = await answer.text();
  if (!answer.ok) return text.slice(0, 300);
  return text.trim() === "" ? "empty" : undefined;
}

async function ask(what: string, fault: () => Promise<string | undefined>): Promise<Asked> {
  try {
    return { what, fault: await fault() };
  } catch (error) {
    // What cannot be asked is a finding like any other: all of them are shown.
    return { what, fault: error instanceof Error ? error.message : String(error) };
  }
}

async function askRules(url: string): Promise<Asked[]> {
  const { groups } = await prometheusAnswer<{ groups: { rules: RuleState[] }[] }>(url, "rules", { type: "alert" });
  const rules = groups.flatMap((group) => group.rules);
  if (rules.length === 0) throw new Error("Prometheus has read no alert rules");
  return Promise.all(
    rules.map((rule) =>
      ask(`alert ${rule.name}`, async () => {
        if (rule.health !== "ok") return rule.lastError ?? `health ${rule.health}`;
        const unknown = await unknownMetrics(url, rule.query);
        if (unknown.length > 0) return `no series of ${unknown.join(", ")}`;
        return rule.state === "firing" ? "fires although nothing is wrong" : undefined;
      }),
    ),
  );
}

async function askEverything(millrace: Millrace, url: string, range: TimeRange): Promise<Asked[]> {
  const queries = [...readDashboards()].flatMap(([file, dashboard]) => queriesOf(file, dashboard));
  const asked: Asked[] = [];
  // One after another: what is measured here runs on the same machine.
  for (const query of queries) {
    const fault = () =>
      query.language === "promql" ? promqlFault(url, query, range) : sqlFault(millrace, query, range);
    asked.push(await ask(`${query.dashboard}, "${query.panel}" (${query.language})`, fault));
  }
  const misspelt = await promqlFault(url, MISSPELT, range);
  asked.push({ what: "a misspelt metric is found", fault: misspelt === undefined ? "it is not" : undefined });
  return [...asked, ...(await askRules(url))];
}

/** Load first, then all questions, with the load still on. */
async function check(directory: string): Promise<{ asked: Asked[]; requests: number }> {
  await using stack = new AsyncDisposableStack();
  const dataDir = join(directory, "millrace");
  await mkdir(dataDir);
  const millrace = stack.use(await startMillrace(dataDir));
  const prometheus = stack.use(await startPrometheus(millrace.url, join(directory, "prometheus")));
  stack.use(startAgent(millrace.relayAddress));
  const stop = new AbortController();
  const load = runLoad(millrace, stop.signal);
  load.catch(() => undefined); // Its failure is awaited below.
  const from = Math.floor(Date.now() / 1000);
  await Promise.race([sleep(LOAD_SECONDS * 1000), load]);
  const to = Math.floor(Date.now() / 1000);
  const range = { from, to, step: SCRAPE_SECONDS, rateInterval: `${4 * SCRAPE_SECONDS}s` };
  const asked = await askEverything(millrace, prometheus.url, range);
  stop.abort();
  return { asked, requests: await load };
}

function reportOf(asked: readonly Asked[], requests: number, seconds: number): string {
  const git = ["describe", "--always", "--dirty", "--exclude=*"];
  const commit = execFileSync("git", git, { cwd: ROOT }).toString().trim();
  const version = /version ([\w.+~-]+)/.exec(execFileSync("prometheus", ["--version"]).toString())?.[1];
  const faulty = asked.filter(({ fault }) => fault !== undefined);
  const lines = asked.map(({ what, fault }) => `| ${what} | ${fault?.replaceAll(/\s+/g, " ") ?? "ok"} |`);
  return [
    `Commit ${commit}, ${new Date().toISOString().slice(0, 16)}Z, Prometheus ${version}: ${asked.length} checks,`,
    `${faulty.length} failed; ${requests} requests, ${seconds.toFixed(0)} s in all.`,
    "",
    "| asked | result |",
    "| --- | --- |",
    ...lines,
    "",
  ].join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { record: { type: "boolean", default: false }, help: { type: "boolean", default: false } },
  });
  if (values.help) {
    process.stdout.write("npm run check:dashboards -- [--record]   (writes bench/results/dashboards.md)\n");
    return 0;
  }
  if (!prometheusForTests().available) return 1;
  const begun = performance.now();
  const directory = await mkdtemp(join(tmpdir(), "millrace-dashboards-"));
  try {
    const { asked, requests } = await check(directory);
    const report = reportOf(asked, requests, (performance.now() - begun) / 1000);
    process.stdout.write(report);
    if (values.record)
      await writeFile(join(ROOT, "bench/results/dashboards.md"), `# npm run check:dashboards\n\n${report}`);
    return asked.some(({ fault }) => fault !== undefined) ? 1 : 0;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

process.exitCode = await main();
