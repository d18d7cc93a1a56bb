// One run: the cluster, the load, the plan, and the audit from the data.
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { areEqual, compare, readOutcomes, readRows, readSums, type Sums } from "./audit.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { KINDS } from "./kinds.ts";
import { type Load, startLoad } from "./load.ts";
import { comparePeople, readPeople, settled } from "./people.ts";
import { type FaultOutcome, outcomeText, runPlan, secondsText } from "./runner.ts";
import type { PlannedFault } from "./schedule.ts";
import { drained, startWatch, type Watch } from "./watch.ts";

export interface ChaosOptions {
  seed: number;
  minutes: number;
  /** Default 1. */
  brokers?: 1 | 3;
  eventsPerSecond: number;
  plan: readonly PlannedFault[];
  /** Ends the run; what it was about is then the report's failure. */
  signal: AbortSignal;
  /** A line about something that has happened. */
  report(line: string): void;
  /** Called twice a second with how it stands. */
  progress(text: string): void;
}

export interface ChaosReport {
  seed: number;
  minutes: number;
  eventsPerSecond: number;
  faults: FaultOutcome[];
  /** Ids acknowledged. */
  acked: number;
  retries: number;
  repeats: number;
  /** Acknowledged events that may say something about people. */
  told: number;
  /** Undefined: the run did not get as far as to look. */
  audit: Audit | undefined;
  longestStallSeconds: number;
  worstRecoverySeconds: number;
  /** Why the run has failed; empty: it has not. */
  failures: string[];
  /** Where the processes' logs are kept when it has. */
  logs: string | undefined;
}

/** What the tables say. */
export interface Audit {
  /** Rows. */
  stored: number;
  duplicates: number;
  deadLetters: number;
  lost: number;
  doubled: number;
  altered: number;
  unknown: number;
  /** By what the acknowledged events say. */
  people: number;
  /** Distinct ids that the tables know. */
  distinctIds: number;
  wrongPeople: number;
  /** Of the rows, and in the roll-up. */
  values: { rows: Sums; rollup: Sums };
  verifyExitCode: number | null;
  verifyOutput: string;
}

/** Past its minutes a run has this long to end, whatever it waits for. */
const OVERTIME_MS = 5 * 60_000;
/** A double would land with, or right after, the last rows. */
const LATE_ROWS_MS = 3_000;
const PROGRESS_MS = 500;
const EXAMPLES = 5;

/** Rejects when the cluster cannot be started; everything after that is in the report. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const overtime = new AbortController();
  const limitMs = options.minutes * 60_000 + OVERTIME_MS;
  const timer = setTimeout(() => overtime.abort(new Error(`not done after ${limitMs / 60_000} minutes`)), limitMs);
  const signal = AbortSignal.any([options.signal, overtime.signal]);
  try {
    await using cluster = await startCluster(options.brokers);
    signal.throwIfAborted();
    const ports = cluster.gatewayLinks.map(({ port }) => port);
    const load = startLoad({ ports, seed: options.seed, eventsPerSecond: options.eventsPerSecond });
    const watch = startWatch(cluster, load);
    const report = emptyReport(options);
    try {
      // What waits for a process that never answers must not keep the run from ending.
      await Promise.race([runAndAudit({ ...options, signal }, cluster, load, watch, report), aborted(signal)]);
    } catch (error) {
      report.failures.push(error instanceof Error ? error.message : String(error));
    } finally {
      load.abort();
      watch.stop();
    }
    judge(report, options, cluster, load);
    if (report.failures.length > 0) report.logs = await keepLogs(cluster);
    return report;
  } finally {
    clearTimeout(timer);
  }
}

function emptyReport({ seed, minutes, eventsPerSecond }: ChaosOptions): ChaosReport {
  return {
    seed,
    minutes,
    eventsPerSecond,
    faults: [],
    acked: 0,
    retries: 0,
    repeats: 0,
    told: 0,
    audit: undefined,
    longestStallSeconds: 0,
    worstRecoverySeconds: 0,
    failures: [],
    logs: undefined,
  };
}

async function runAndAudit(
  options: ChaosOptions,
  cluster: Cluster,
  load: Load,
  watch: Watch,
  report: ChaosReport,
): Promise<void> {
  const { seed, plan, eventsPerSecond, signal } = options;
  const begun = performance.now();
  let doing = "";
  const ticking = setInterval(() => {
    const { stored } = watch;
    const lag = Math.max(0, load.acked.size - stored);
    options.progress(
      `${secondsText(performance.now() - begun)}  acked ${load.acked.size}  stored ${stored}  lag ${lag}  ${doing}`,
    );
  }, PROGRESS_MS);
  try {
    await runPlan({
      seed,
      plan,
      context: { cluster, load, eventsPerSecond, signal },
      onActive(active) {
        doing = active.map(({ kind, target }) => `${kind} ${target}`).join(", ");
        watch.faultsChanged(active.filter(({ kind }) => KINDS[kind].lane !== "aside").length);
      },
      onEnded(outcome) {
        report.faults.push(outcome);
        options.report(outcomeText(outcome));
      },
    });
    await sleep(Math.max(0, options.minutes * 60_000 - (performance.now() - begun)), undefined, { signal });
    doing = "waiting for what is not acknowledged";
    await load.pause();
    load.forgetRepeats();
    doing = "waiting for what is not stored";
    // A consumer that stands still is a fault like any other, and no reason not to look at what is there.
    await drained(cluster, signal).catch((error: Error) => report.failures.push(error.message));
    doing = "waiting for who is who";
    await settled(cluster.warehouse, signal).catch((error: Error) => report.failures.push(error.message));
    await sleep(LATE_ROWS_MS, undefined, { signal });
  } finally {
    clearInterval(ticking);
    report.longestStallSeconds = watch.longestStallSeconds;
    report.worstRecoverySeconds = watch.worstRecoverySeconds;
    report.acked = load.acked.size;
    report.retries = load.retries;
    report.repeats = load.repeats;
    report.told = load.told.length;
  }
  options.report("comparing what was acknowledged with what is stored");
  report.audit = await audit(cluster, load, report.failures);
}

async function audit({ warehouse, run }: Cluster, load: Load, failures: string[]): Promise<Audit> {
  const { stored, ...faulty } = compare(load, await readRows(warehouse));
  for (const [name, ids] of Object.entries(faulty)) {
    if (ids.length > 0) failures.push(`${ids.length} ${name}: ${ids.slice(0, EXAMPLES).join(", ")}`);
  }
  const { lost, doubled, altered, unknown } = faulty;
  const counts = { lost: lost.length, doubled: doubled.length, altered: altered.length, unknown: unknown.length };
  const shown = await readPeople(warehouse);
  const { people, wrong } = comparePeople(load, shown);
  if (wrong.length > 0) failures.push(`${wrong.length} wrong people: ${wrong.slice(0, EXAMPLES).join("\n    ")}`);
  const whoIsWho = { people, distinctIds: shown.mapped.length, wrongPeople: wrong.length };
  const values = await readSums(warehouse);
  if (!areEqual(values.rows, values.rollup)) {
    failures.push(`the roll-up is not what the rows are: ${JSON.stringify(values)}`);
  }
  const { exitCode, output } = await run(["verify"]);
  if (exitCode !== 0) failures.push(`millrace verify ended with ${exitCode}; its account is above`);
  const outcomes = await readOutcomes(warehouse);
  return { stored, ...counts, ...outcomes, ...whoIsWho, values, verifyExitCode: exitCode, verifyOutput: output };
}

function judge({ failures, faults }: ChaosReport, { plan }: ChaosOptions, cluster: Cluster, load: Load): void {
  for (const { kind, target, isSeen, proof, standalone } of faults) {
    if (!isSeen) failures.push(`${kind} ${target} was not seen: ${proof}`);
    if (!standalone) continue;
    const { lost, doubled, wrong, verifyExitCode } = standalone;
    if (lost + doubled + wrong > 0 || verifyExitCode !== 0) failures.push(`${kind} ${target}: ${proof}`);
  }
  if (faults.length < plan.length) failures.push(`${plan.length - faults.length} faults did not get their turn`);
  failures.push(...cluster.endedAlone);
  failures.push(...load.refused.slice(0, EXAMPLES).map((reason) => `an event was refused: ${reason}`));
}

async function keepLogs(cluster: Cluster): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-chaos-logs-"));
  for (const { name, lines } of cluster.logs())
    await writeFile(join(directory, `${name}.log`), `${lines.join("\n")}\n`);
  for (const { id, log } of cluster.kafka?.brokers ?? [])
    await writeFile(join(directory, `broker-${id}.log`), await log());
  return directory;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
