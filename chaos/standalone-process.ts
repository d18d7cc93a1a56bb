// `millrace start` as the faults see it: killed, frozen, and started again where it was, as a service manager would.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { killWithUs } from "../test/kit/guard.ts";
import { FREE_PORTS, type Spawned, spawnMillrace } from "../test/kit/processes.ts";

export interface StandaloneProcess extends AsyncDisposable {
  readonly url: string;
  readonly clickhouseUrl: string;
  readonly pid: number;
  /** Process id of its ClickHouse child; undefined while that is being started again. */
  clickhousePid(): Promise<number | undefined>;
  /** Kills it with -9, and its ClickHouse child too if wanted; resolves when it is dead, with what was killed. */
  kill(options: { withClickHouse: boolean }): Promise<number[]>;
  /** Starts it again on its ports; resolves when it is ready, with the number of attempts, or rejects after a minute. */
  restart(): Promise<number>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

const READY_MS_MAX = 60_000;
const ATTEMPT_PAUSE_MS = 200;
const CHILD_END_MS_MAX = 20_000;
/** Short flushes: more of the kills fall between the marker of a range and its commit. */
const SETTINGS = { FLUSH_INTERVAL: "50ms", LOG_LEVEL: "warn" };

/** Resolves when it is ready, on free ports. */
export async function startStandalone(dataDir: string): Promise<StandaloneProcess> {
  const spawnOn = (ports: Record<string, string>) => {
    const spawned = spawnMillrace(["start"], { ...SETTINGS, ...FREE_PORTS, DATA_DIR: dataDir, ...ports });
    killWithUs(spawned);
    return spawned;
  };
  let current = spawnOn({});
  const children = new Set<number>();
  const { url, clickhouseUrl } = await ready(current, performance.now() + READY_MS_MAX).catch(async (error) => {
    await current[Symbol.asyncDispose]();
    throw error;
  });

  async function clickhousePid(): Promise<number | undefined> {
    const [pid] = await childrenOf(current.pid);
    if (pid !== undefined) children.add(pid);
    return pid;
  }

  return {
    url,
    clickhouseUrl,
    get pid() {
      return current.pid;
    },
    clickhousePid,
    async kill({ withClickHouse }) {
      const child = await clickhousePid();
      const pids = [current.pid];
      if (withClickHouse && child !== undefined) pids.push(child);
      for (const pid of pids) process.kill(pid, "SIGKILL");
      await current.exited;
      return pids;
    },
    async restart() {
      const ports = { PORT: new URL(url).port, CLICKHOUSE_HTTP_PORT: new URL(clickhouseUrl).port };
      const deadline = performance.now() + READY_MS_MAX;
      for (let attempt = 1; ; attempt++) {
        current = spawnOn(ports);
        try {
          await ready(current, deadline);
          return attempt;
        } catch (error) {
          // The ClickHouse child of the one before may still hold the directory, or the disk may be full: again.
          await current.stop("SIGKILL");
          if (performance.now() > deadline) throw error;
        }
        await sleep(ATTEMPT_PAUSE_MS);
      }
    },
    stop: () => current.stop("SIGTERM"),
    async [Symbol.asyncDispose]() {
      await clickhousePid();
      await current[Symbol.asyncDispose]();
      await gone(children);
    },
  };
}

async function ready(spawned: Spawned, deadline: number): Promise<{ url: string; clickhouseUrl: string }> {
  let ended = false;
  void spawned.exited.then(() => {
    ended = true;
  });
  for (;;) {
    const url = printed(spawned, /^ {2}events +(http:\S+)/);
    const clickhouseUrl = printed(spawned, /^ {2}ClickHouse +(http:\S+)/);
    if (url !== undefined && clickhouseUrl !== undefined) return { url, clickhouseUrl };
    if (ended || performance.now() > deadline) {
      const what = ended ? "ended before it was ready" : `was not ready in ${READY_MS_MAX} ms`;
      throw new Error(`millrace start ${what}:\n${spawned.lines.slice(-20).join("\n")}`);
    }
    await sleep(20);
  }
}

function printed({ lines }: Spawned, pattern: RegExp): string | undefined {
  return lines.map((line) => pattern.exec(line)?.[1]).find((match) => match !== undefined);
}

/** Linux; none for a process that is gone. */
async function childrenOf(pid: number): Promise<number[]> {
  try {
    const pids = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
    return pids.split(" ").filter(Boolean).map(Number);
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}

/** A child whose parent was killed ends by itself; the directory must not be taken from under it. */
async function gone(pids: ReadonlySet<number>): Promise<void> {
  const deadline = performance.now() + CHILD_END_MS_MAX;
  for (const pid of pids) while (performance.now() < deadline && (await servesClickHouse(pid))) await sleep(50);
}

/** Not a process that has got the same id since. */
async function servesClickHouse(pid: number): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, "utf8")).includes("clickhouse-child");
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
