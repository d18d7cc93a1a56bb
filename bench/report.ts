// The outcome for people (a table) and for machines (JSON), with what one must know of the machine to read it.
import { execFileSync, type StdioOptions } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMet, type Result, type Target } from "./result.ts";
import type { Outcome } from "./runner.ts";

export interface Environment {
  commit: string;
  /** ISO 8601, UTC. */
  date: string;
  cpu: string;
  cores: number;
  memoryBytes: number;
  node: string;
}

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const RESULTS = join(ROOT, "bench", "results");

export function describeEnvironment(): Environment {
  const processors = cpus();
  return {
    commit: commitOf(),
    date: new Date().toISOString(),
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memoryBytes: totalmem(),
    node: process.version,
  };
}

/** Markdown. */
export function reportText(environment: Environment, outcome: Outcome): string {
  const { commit, date, cpu, cores, memoryBytes, node } = environment;
  const head = [
    `Commit ${commit}, ${date.slice(0, 16)}Z, Node ${node}, ${cores} cores (${cpu}), ${Math.round(memoryBytes / 2 ** 30)} GiB.`,
    "Broker, load generator, ClickHouse and the process under test share the machine; CPU and RSS are those of the process",
    "under test. Rows are counted on the log or in ClickHouse.",
  ].join("\n");
  const failed = outcome.failures.map(({ name, message }) => `FAILED ${name}: ${message}`);
  return [
    head,
    tableOf(outcome.results),
    ...coreTables(outcome.results),
    ...spreadTables(outcome.results),
    ...failed,
  ].join("\n\n");
}

/** Writes both forms and resolves with the path of the table. */
export async function keepReport(environment: Environment, outcome: Outcome, only: string): Promise<string> {
  await mkdir(RESULTS, { recursive: true });
  const name = [environment.date.slice(0, 10), environment.commit, only].filter(Boolean).join("-");
  await writeFile(join(RESULTS, `${name}.json`), `${JSON.stringify({ ...environment, ...outcome }, null, 2)}\n`);
  await writeFile(join(RESULTS, `${name}.md`), `${reportText(environment, outcome)}\n`);
  return `bench/results/${name}.md`;
}

function tableOf(results: readonly Result[]): string {
  const head = ["case", "acked", "rows counted", "events sent", "seconds", "events/s", "CPU us/event", "RSS max MB"];
  const rows = results.map((result) => [
    result.name,
    String(result.acked),
    String(result.rows),
    String(result.events),
    result.seconds.toFixed(1),
    String(Math.round(result.rows / result.seconds)),
    result.cpuUsPerEvent?.toFixed(1) ?? "",
    result.rssMaxMb?.toFixed(0) ?? "",
    result.targets.map(targetText).join("; "),
    result.note,
  ]);
  const columns = [...head, "targets", "note"];
  return [columns, columns.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Where the machine's cores went. */
function coreTables(results: readonly Result[]): string[] {
  return results.flatMap(({ name, cores }) => {
    if (!cores) return [];
    const rows = Object.entries(cores).map(([part, taken]) => `| ${part} | ${taken.toFixed(2)} |`);
    return [[`| ${name} | cores |`, "| --- | --- |", ...rows].join("\n")];
  });
}

/** The slowest first. */
function spreadTables(results: readonly Result[]): string[] {
  return results.flatMap(({ name, spreads }) => {
    if (!spreads) return [];
    const rows = Object.entries(spreads)
      .sort(([, a], [, b]) => b.p99 - a.p99)
      .map(([what, { p50, p99 }]) => `| ${what} | ${p50.toFixed(1)} | ${p99.toFixed(1)} |`);
    return [[`| ${name} | p50 ms | p99 ms |`, "| --- | --- | --- |", ...rows].join("\n")];
  });
}

function targetText(target: Target): string {
  const { what, measured, limit, atLeast = false } = target;
  const verdict = isMet(target) ? "met" : "MISSED";
  return `${verdict}: ${what} ${shortNumber(measured)} (${atLeast ? "at least" : "below"} ${shortNumber(limit)})`;
}

function shortNumber(value: number): string {
  return Number.isInteger(value) || Math.abs(value) >= 1000 ? String(Math.round(value)) : value.toFixed(1);
}

function commitOf(): string {
  try {
    const stdio: StdioOptions = ["ignore", "pipe", "ignore"];
    return execFileSync("git", ["describe", "--always", "--dirty", "--exclude=*"], { cwd: ROOT, stdio })
      .toString()
      .trim();
  } catch {
    // Not a checkout, or no git: the results say so.
    return "unknown";
  }
}
