// Watches log, consumer and ClickHouse: lightly every few seconds, for metrics and for "since when", and in full when
// somebody asks, at most once a second.
import { statfs } from "node:fs/promises";
import { Gauge, type Registry } from "prom-client";
import type { EventLog, LogReader } from "#lib/eventlog/log.ts";
import type { HealthCheck } from "#lib/http/health.ts";
import { STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { within } from "#lib/process/waiting.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { RefusalReport, RefusalSource } from "../receipts/refusals.ts";
import { createFlowMeter, type TopicFlow } from "./flow.ts";
import { type Away, type Facts, type Problem, problemsOf, whyWaiting } from "./problems.ts";
import { newestRows, readTables, type TablesState } from "./tables.ts";

export interface MonitorOptions {
  log: EventLog & LogReader;
  warehouse: Warehouse;
  refusals: RefusalSource;
  /** The consumer's own checks, where it is in this process. */
  consumerChecks: readonly HealthCheck[];
  /** Where the log's file is, if it is on a disk of this machine. */
  logDirectory: string | undefined;
  registry: Registry;
  nowMs: () => number;
}

export interface Snapshot {
  atMs: number;
  facts: Facts;
  problems: Problem[];
  tables: TablesState | undefined;
  report: RefusalReport;
  logSystem: string;
  gaps: string[];
}

export interface Monitor extends Disposable {
  snapshot(): Promise<Snapshot>;
  /** Why a record of the topic waits, as of the last look. */
  whyWaiting(topic: string, partition: number): string;
}

const LOOK_MS = 5_000;
const PART_MS_MAX = 3_000;
const FRESH_MS = 1_000;
const NO_REPORT: RefusalReport = { refused: [], sums: [], gaps: [] };

export function startMonitor(options: MonitorOptions): Monitor {
  const { log, warehouse, nowMs } = options;
  const meters = STORED_TOPICS.map((topic) => createFlowMeter(log, topic));
  const firstSeen = new Map<string, number>();
  let flows: TopicFlow[] = [];
  let newest = new Map<string, number>();
  let facts: Facts | undefined;
  let last: Promise<Snapshot> | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<Facts> | undefined;
  registerGauges(options.registry, () => ({ flows, newest, nowMs: nowMs() }));

  /** Undefined: the part answers. */
  async function away(part: string, work: () => Promise<void>): Promise<Away | undefined> {
    try {
      await work();
      firstSeen.delete(part);
      return undefined;
    } catch (error) {
      const sinceMs = firstSeen.get(part) ?? nowMs();
      firstSeen.set(part, sinceMs);
      return { sinceMs, why: error instanceof Error ? firstSentence(error.message) : String(error) };
    }
  }

  async function look(): Promise<Facts> {
    const [logAway, clickhouseAway, consumerFault] = await Promise.all([
      away("log", async () => {
        await within(PART_MS_MAX, log.check());
        flows = await within(PART_MS_MAX, Promise.all(meters.map((meter) => meter.measure(nowMs()))));
      }),
      away("clickhouse", async () => {
        newest = await within(PART_MS_MAX, (signal) => newestRows(warehouse, signal));
      }),
      faultOf(options.consumerChecks),
    ]);
    const base = { nowMs: nowMs(), flows, logSystem: log.system, newestRowMs: newest, disks: [] };
    facts = { ...base, logAway, clickhouseAway, consumerFault };
    return facts;
  }

  /** One at a time. */
  function lookOnce(): Promise<Facts> {
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  async function measure(): Promise<Snapshot> {
    const gaps: string[] = [];
    const [base, tables, report, logDisk] = await Promise.all([
      lookOnce(),
      within(PART_MS_MAX, (signal) => readTables(warehouse, signal)).catch(() => undefined),
      within(PART_MS_MAX, options.refusals.ask([])).catch(() => NO_REPORT),
      diskOf(options.logDirectory),
    ]);
    if (!tables) gaps.push("ClickHouse does not say how many dead letters there are, its disks and its version");
    const disks = [...(tables?.disks ?? []).map((disk) => ({ ...disk, name: `clickhouse:${disk.name}` })), ...logDisk];
    const seen = { ...base, disks, letters: tables?.letters, verify: tables?.verify };
    const problems = problemsOf(seen).map((problem) => ({ ...problem, sinceMs: sinceOf(problem) }));
    const present = new Set(problems.map(({ name }) => name));
    for (const name of firstSeen.keys())
      if (name.startsWith("problem ") && !present.has(name.slice(8))) firstSeen.delete(name);
    return {
      atMs: base.nowMs,
      facts: seen,
      problems,
      tables,
      report,
      logSystem: log.system,
      gaps: [...gaps, ...report.gaps],
    };
  }

  /** A disk says how full it is, not since when. */
  function sinceOf({ name, sinceMs }: Problem): number {
    const key = `problem ${name}`;
    const first = Math.min(firstSeen.get(key) ?? sinceMs, sinceMs);
    firstSeen.set(key, first);
    return first;
  }

  const timer = setInterval(() => void lookOnce().catch(() => undefined), LOOK_MS);
  timer.unref();
  void lookOnce().catch(() => undefined);
  return {
    snapshot() {
      const now = performance.now();
      if (!last || now - lastMs >= FRESH_MS) {
        lastMs = now;
        last = measure();
      }
      return last;
    },
    whyWaiting: (topic, partition) => whyWaiting(facts, topic, partition),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

async function faultOf(checks: readonly HealthCheck[]): Promise<string | undefined> {
  for (const { check } of checks) {
    try {
      await within(PART_MS_MAX, (signal) => check(signal));
    } catch (error) {
      return error instanceof Error ? firstSentence(error.message) : String(error);
    }
  }
  return undefined;
}

async function diskOf(directory: string | undefined): Promise<{ name: string; free: number; total: number }[]> {
  if (directory === undefined) return [];
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return [{ name: "log", free: bavail * bsize, total: blocks * bsize }];
  } catch {
    // Not every file system says.
    return [];
  }
}

/** What a part says of itself may be long, and ends in its own remedy. */
function firstSentence(message: string): string {
  const text = message.split("\n", 1)[0] ?? "";
  return text.length > 200 ? `${text.slice(0, 200)}…` : text.replace(/\.$/, "");
}

function registerGauges(
  registry: Registry,
  read: () => { flows: readonly TopicFlow[]; newest: ReadonlyMap<string, number>; nowMs: number },
): void {
  const labelNames = ["topic"] as const;
  new Gauge({
    name: "millrace_oldest_waiting_seconds",
    help: "Age of the oldest record on the log that is not stored, measured beside the consumer; 0 when none waits.",
    labelNames,
    registers: [registry],
    collect() {
      const { flows, nowMs } = read();
      for (const { topic, waiting, oldestWaitingMs } of flows) {
        if (waiting === 0) this.set({ topic }, 0);
        else if (oldestWaitingMs !== undefined) this.set({ topic }, Math.max(0, nowMs - oldestWaitingMs) / 1000);
      }
    },
  });
  new Gauge({
    name: "millrace_newest_row_age_seconds",
    help: "Time since the log took the newest row; grows while nothing comes in.",
    labelNames,
    registers: [registry],
    collect() {
      const { newest, nowMs } = read();
      for (const [topic, ms] of newest) this.set({ topic }, Math.max(0, nowMs - ms) / 1000);
    },
  });
}
