// Watches log, consumer and ClickHouse: lightly every few seconds, for metrics and for "since when", and in full when
// somebody asks, at most once a second. What of it changes slowly is remembered for a few seconds.
import { statfs } from "node:fs/promises";
import { Gauge, type Registry } from "prom-client";
import type { EventLog, LogReader } from "#lib/eventlog/log.ts";
import type { HealthCheck } from "#lib/http/health.ts";
import { STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { within } from "#lib/process/waiting.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { RefusalReport, RefusalSource } from "../receipts/refusals.ts";
import { createFlowMeter, type TopicFlow } from "./flow.ts";
import {
  type Away,
  type Disk,
  type Facts,
  fullOfClickHouse,
  hasNoRoom,
  LOG_DISK,
  type Problem,
  problemsOf,
  whyWaiting,
} from "./problems.ts";
import { newestRows, readDisks, readTables, type TablesState } from "./tables.ts";

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
/** Of what changes slowly, and would be most of the cost of a page that asks every three seconds. */
const REMEMBERED_MS = 4_500;
const NO_REPORT: RefusalReport = { refused: [], sums: [], gaps: [] };

export function startMonitor(options: MonitorOptions): Monitor {
  const { log, warehouse, nowMs } = options;
  const meters = STORED_TOPICS.map((topic) => createFlowMeter(log, topic));
  const firstSeen = new Map<string, number>();
  let flows: TopicFlow[] = [];
  let newest = new Map<string, number>();
  let backMs: number | undefined;
  let facts: Facts | undefined;
  let last: Promise<Snapshot> | undefined;
  let lastMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<Facts> | undefined;
  let lookedMs = Number.NEGATIVE_INFINITY;
  const ofClickHouse = <T>(read: (warehouse: Warehouse, signal: AbortSignal) => Promise<T>) =>
    remembered(() => within(PART_MS_MAX, (signal) => read(warehouse, signal)));
  const disksOfClickHouse = ofClickHouse(readDisks);
  const tablesOfClickHouse = ofClickHouse(readTables);
  registerGauges(options.registry, () => ({ flows, newest, nowMs: nowMs() }));

  function sinceFirst(what: string, ms = nowMs()): number {
    const sinceMs = firstSeen.get(what) ?? ms;
    firstSeen.set(what, sinceMs);
    return sinceMs;
  }

  /** Undefined: the part answers. */
  async function away(part: string, work: () => Promise<unknown>): Promise<Away | undefined> {
    try {
      await work();
      firstSeen.delete(part);
      return undefined;
    } catch (error) {
      return { sinceMs: sinceFirst(part), why: error instanceof Error ? firstSentence(error.message) : String(error) };
    }
  }

  function diskNow(disk: Disk): Disk {
    const key = `full ${disk.name}`;
    if (hasNoRoom(disk)) return { ...disk, fullSinceMs: sinceFirst(key) };
    firstSeen.delete(key);
    return disk;
  }

  async function look(): Promise<Facts> {
    const measureFlows = async () => {
      flows = await Promise.all(meters.map((meter) => meter.measure(nowMs())));
    };
    const [logAway, clickhouseAway, consumerFault, ...disksFound] = await Promise.all([
      // A log that cannot be written may be readable.
      away("log", () => within(PART_MS_MAX, Promise.all([log.check(), measureFlows()]))),
      away("clickhouse", async () => {
        newest = await within(PART_MS_MAX, (signal) => newestRows(warehouse, signal));
      }),
      faultOf(options.consumerChecks),
      // Not every account may look.
      disksOfClickHouse().catch(() => []),
      diskOf(options.logDirectory),
    ]);
    const disks = disksFound.flat().map(diskNow);
    if (logAway || clickhouseAway || fullOfClickHouse({ disks })) backMs = nowMs();
    const base = { nowMs: nowMs(), flows, logSystem: log.system, newestRowMs: newest, disks, backMs };
    facts = { ...base, logAway, clickhouseAway, consumerFault };
    return facts;
  }

  /** One at a time. */
  function lookOnce(): Promise<Facts> {
    lookedMs = performance.now();
    looking ??= look().finally(() => {
      looking = undefined;
    });
    return looking;
  }

  async function measure(): Promise<Snapshot> {
    const gaps: string[] = [];
    const [base, tables, report] = await Promise.all([
      lookOnce(),
      tablesOfClickHouse().catch(() => undefined),
      within(PART_MS_MAX, options.refusals.ask([])).catch(() => NO_REPORT),
    ]);
    if (!tables) gaps.push("ClickHouse does not say how many dead letters there are, its disks and its version");
    const seen = { ...base, letters: tables?.letters, verify: tables?.verify };
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

  /** Some say of themselves how it is, not since when. */
  function sinceOf({ name, sinceMs }: Problem): number {
    const key = `problem ${name}`;
    const first = Math.min(firstSeen.get(key) ?? sinceMs, sinceMs);
    firstSeen.set(key, first);
    return first;
  }

  const timer = setInterval(() => {
    // Whoever asks for the status looks as well.
    if (performance.now() - lookedMs > LOOK_MS / 2) void lookOnce().catch(() => undefined);
  }, LOOK_MS);
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

/** Asks again when the last answer is old; a failure is not remembered. */
function remembered<T>(ask: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | undefined;
  let lastMs = 0;
  return () => {
    if (last && performance.now() - lastMs < REMEMBERED_MS) return last;
    lastMs = performance.now();
    const asked = ask();
    last = asked;
    asked.catch(() => {
      if (last === asked) last = undefined;
    });
    return asked;
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

async function diskOf(directory: string | undefined): Promise<Disk[]> {
  if (directory === undefined) return [];
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return [{ name: LOG_DISK, free: bavail * bsize, total: blocks * bsize }];
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
