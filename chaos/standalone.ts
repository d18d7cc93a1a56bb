// `millrace start`, with its SQLite log, under kills, freezes and full disks while a client writes; then the audit.
import { setTimeout as sleep } from "node:timers/promises";
import { patience } from "../test/kit/patience.ts";
import { spawnMillrace } from "../test/kit/processes.ts";
import { createDisk, type Disk } from "../test/kit/small-disk.ts";
import { until } from "../test/kit/until.ts";
import { compare, type StoredRow } from "./audit.ts";
import { contentText, createStandaloneClient, type StandaloneClient } from "./standalone-client.ts";
import { type StandaloneProcess, startKillable } from "./standalone-process.ts";

export interface StandaloneChaosOptions {
  /** In [0, 1): decides which fault, when and for how long. */
  random: () => number;
  /** Ends the faults and begins the audit. */
  signal: AbortSignal;
  eventsPerSecond: number;
  report(line: string): void;
  /** Called after each fault, with what has happened so far. */
  onFault?(seen: Readonly<Seen>): void;
}

type Seen = Pick<StandaloneReport, "kills" | "fullDisks" | "freezes">;

export interface StandaloneReport {
  /** Processes killed with -9: standalones and ClickHouse children. */
  kills: number;
  /** Times that events were refused for want of space, and taken again when there was room. */
  fullDisks: number;
  freezes: number;
  acked: number;
  retries: number;
  rows: number;
  /** Acknowledged ids without a row. */
  lost: number;
  /** Rows beyond the first of an id. */
  doubled: number;
  /** Rows that nobody sent, or with other content than was sent. */
  wrong: number;
  verifyExitCode: number | null;
}

interface Context extends StandaloneChaosOptions {
  disk: Disk;
  standalone: StandaloneProcess;
  client: StandaloneClient;
  seen: Seen;
}

interface EventRow {
  id: string;
  event: string;
  distinctId: string;
  value: number | null;
  properties: string;
}

type Fault = (context: Context) => Promise<string>;

const DISK_MEGABYTES = 256;
const PAUSE_MS = { min: 300, max: 2_500 };
/** Longer than the client waits for an answer. */
const FREEZE_MS = { min: 1_200, max: 4_000 };
/** Longer than the 10 s for which a marker counts as fresh. */
const LONG_FREEZE_MS = { min: 10_500, max: 13_000 };
const FULL_MS = { min: 200, max: 2_000 };
const REFUSED_MS_MAX = 30_000;
const RECOVERED_MS_MAX = 30_000;
const DRAIN_MS_MAX = 120_000;

const FAULTS: Record<string, Fault> = {
  "kill -9": (context) => kill(context, false),
  "kill -9 with ClickHouse": (context) => kill(context, true),
  "kill -9 of ClickHouse": killClickHouse,
  freeze: (context) => freeze(context, context.standalone.pid, FREEZE_MS),
  "freeze of ClickHouse": async (context) => freeze(context, await context.standalone.clickhousePid(), FREEZE_MS),
  "full disk": fullDisk,
};

const isNeeded = (name: string) => name === "kill -9" || name === "full disk";

/** Once each of the others has happened. */
const LATER_FAULTS: Record<string, Fault> = {
  ...FAULTS,
  "long freeze": (context) => freeze(context, context.standalone.pid, LONG_FREEZE_MS),
  "long freeze of ClickHouse": async (context) =>
    freeze(context, await context.standalone.clickhousePid(), LONG_FREEZE_MS),
};

/**
 * Each fault at least once if there is time, then any; the fault under way when `signal` fires is brought to its end.
 * Rejects when the standalone does not come back, the client's events are refused for good, or the rows do not arrive in
 * two minutes.
 */
export async function runStandaloneChaos(options: StandaloneChaosOptions): Promise<StandaloneReport> {
  await using stack = new AsyncDisposableStack();
  const disk = stack.use(await createDisk(DISK_MEGABYTES));
  const standalone = stack.use(await startKillable(disk.dataDir));
  const client = createStandaloneClient({ url: standalone.url, eventsPerSecond: options.eventsPerSecond });
  const seen = { kills: 0, fullDisks: 0, freezes: 0 };

  const failed = new AbortController();
  const stop = AbortSignal.any([options.signal, failed.signal]);
  const orAbandon = (error: unknown) => {
    failed.abort(error);
    throw error;
  };
  const loading = client.run(stop, failed.signal).catch(orAbandon);
  const faulting = injectFaults({ ...options, disk, standalone, client, seen, signal: stop }).catch(orAbandon);
  await Promise.allSettled([faulting]);
  const unacked = () => `${client.sent.size - client.acked.size} events: not acknowledged in ${DRAIN_MS_MAX} ms`;
  const timer = setTimeout(() => failed.abort(new Error(unacked())), DRAIN_MS_MAX);
  await Promise.allSettled([loading]);
  clearTimeout(timer);
  failed.signal.throwIfAborted();

  await drained(standalone, client);
  const { stored, lost, doubled, altered, unknown } = compare(client, await storedRows(standalone));
  const verify = spawnMillrace(["verify", "--wait", "30s"], {
    DATA_DIR: disk.dataDir,
    CLICKHOUSE_URL: standalone.clickhouseUrl,
  });
  const verifyExitCode = await verify.exited;
  for (const line of verify.lines) options.report(line);
  await standalone.stop();
  return {
    ...seen,
    acked: client.acked.size,
    retries: client.retries,
    rows: stored,
    lost: lost.length,
    doubled: doubled.length,
    wrong: altered.length + unknown.length,
    verifyExitCode,
  };
}

async function injectFaults(context: Context): Promise<void> {
  const { random, signal, report } = context;
  const begun = performance.now();
  // Those that a run is not complete without come first: a slow machine has no time for all.
  const firstRound = shuffled(Object.entries(FAULTS), random).sort(
    ([a], [b]) => Number(isNeeded(a)) - Number(isNeeded(b)),
  );
  const later = Object.entries(LATER_FAULTS);
  while (await pause(between(random, PAUSE_MS), signal)) {
    const [name, fault] = firstRound.pop() ?? (later[Math.floor(random() * later.length)] as [string, Fault]);
    const atSeconds = (performance.now() - begun) / 1000;
    const outcome = await fault(context);
    report(`${atSeconds.toFixed(1)} s: ${name}: ${outcome}`);
    context.onFault?.(context.seen);
  }
}

async function kill({ standalone, client, seen }: Context, withClickHouse: boolean): Promise<string> {
  const acked = client.acked.size;
  const pids = await standalone.kill({ withClickHouse });
  seen.kills += pids.length;
  return `pid ${pids.join(" and ")} after ${acked} acknowledged, ${await comeBack(standalone)}`;
}

async function comeBack(standalone: StandaloneProcess): Promise<string> {
  const begun = performance.now();
  const attempts = await standalone.restart();
  return `ready again after ${Math.round(performance.now() - begun)} ms, ${attempts} start(s)`;
}

async function killClickHouse({ standalone, seen }: Context): Promise<string> {
  const pid = await standalone.clickhousePid();
  if (pid === undefined) return "there was none";
  process.kill(pid, "SIGKILL");
  seen.kills++;
  const begun = performance.now();
  let next = await standalone.clickhousePid();
  await until(
    async () => {
      next = await standalone.clickhousePid();
      return next !== undefined && next !== pid;
    },
    "a new ClickHouse child",
    patience(RECOVERED_MS_MAX),
  );
  return `pid ${pid}, its successor ${next} after ${Math.round(performance.now() - begun)} ms`;
}

async function freeze(context: Context, pid: number | undefined, bounds: typeof FREEZE_MS): Promise<string> {
  if (pid === undefined) return "there was none";
  const { random, signal, seen } = context;
  const ms = between(random, bounds);
  process.kill(pid, "SIGSTOP");
  try {
    await pause(ms, signal);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  seen.freezes++;
  return `pid ${pid} for at most ${Math.round(ms)} ms`;
}

/** Now and then it is also killed while the disk is full, and started again before there is room. */
async function fullDisk(context: Context): Promise<string> {
  const { random, signal, disk, standalone, client, seen } = context;
  const [killed, fullMs] = [random() < 0.3, between(random, FULL_MS)];
  // A clean stop empties SQLite's WAL, which otherwise is room that the log has already.
  const code = await standalone.stop();
  if (code !== 0) throw new Error(`millrace start ended with ${code} after SIGTERM`);
  await standalone.restart();
  const begun = performance.now();
  const refusals = client.refusals;
  await using filled = await disk.fill(standalone.pid);
  const isRefused = () => client.refusals > refusals;
  await until(() => isRefused() || signal.aborted, "a refusal for want of space", patience(REFUSED_MS_MAX));
  if (!isRefused()) return "ended before an event was refused";
  const refused = `events refused after ${Math.round(performance.now() - begun)} ms`;
  if (killed) seen.kills += (await standalone.kill({ withClickHouse: random() < 0.5 })).length;
  const freed = pause(fullMs, signal).then(() => filled.free());
  const [attempts] = await Promise.all([killed ? standalone.restart() : 0, freed]);
  const acked = client.acked.size;
  await until(() => client.acked.size > acked, "events taken again after the full disk", patience(RECOVERED_MS_MAX));
  seen.fullDisks++;
  return `${refused}, taken again when there was room${killed ? `; killed meanwhile, ${attempts} start(s)` : ""}`;
}

/** One partition, in order: when the row of an event sent last is there, everything before it has been decided. */
async function drained(standalone: StandaloneProcess, client: StandaloneClient): Promise<void> {
  const last = await client.sendOne(AbortSignal.timeout(DRAIN_MS_MAX));
  await until(
    async () => {
      const [row] = await query<{ n: string }>(standalone, `SELECT count() AS n FROM events WHERE uuid = '${last}'`);
      return Number(row?.n) > 0;
    },
    `the rows of ${client.acked.size} acknowledged events`,
    patience(DRAIN_MS_MAX),
  );
}

async function storedRows(standalone: StandaloneProcess): Promise<StoredRow[]> {
  const columns = "toString(uuid) AS id, event, distinct_id AS distinctId, value, properties";
  const rows = await query<EventRow>(standalone, `SELECT ${columns} FROM events`);
  return rows.map(({ properties, ...row }) => ({
    id: row.id,
    content: contentText({ ...row, properties: JSON.parse(properties) }),
  }));
}

async function query<Row>({ clickhouseUrl }: StandaloneProcess, sql: string): Promise<Row[]> {
  const url = `${clickhouseUrl}/?database=millrace&default_format=JSONEachRow`;
  const ask = async () => {
    const answer = await fetch(url, { method: "POST", body: sql });
    return { ok: answer.ok, status: answer.status, text: await answer.text() };
  };
  let answer: Awaited<ReturnType<typeof ask>> | undefined;
  // The engine may be on its way back from the last fault: then there is no answer at all, not one that says no.
  const answered = async () => {
    answer = await ask().catch(() => undefined);
    return answer !== undefined;
  };
  await until(answered, `ClickHouse answers at ${clickhouseUrl}`, patience(RECOVERED_MS_MAX));
  const { ok, status, text } = answer as NonNullable<typeof answer>;
  if (!ok) throw new Error(`ClickHouse answered with ${status}: ${text}`);
  return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Row]));
}

/** False when `signal` fired meanwhile. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
  return !signal.aborted;
}

function between(random: () => number, { min, max }: { min: number; max: number }): number {
  return min + random() * (max - min);
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
