// `millrace start` as the faults see it: killed, frozen, and started again where it was, as a service manager would.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { childrenOf } from "../test/kit/os-processes.ts";
import { patience } from "../test/kit/patience.ts";
import { startStandalone } from "../test/kit/standalone.ts";
import { until } from "../test/kit/until.ts";

export interface StandaloneProcess extends AsyncDisposable {
  readonly url: string;
  readonly clickhouseUrl: string;
  readonly pid: number;
  /** Process id of its ClickHouse child; undefined while that is being started again. */
  clickhousePid(): Promise<number | undefined>;
  /** Kills it with -9, and its ClickHouse child too if wanted; resolves when it is dead, with what was killed. */
  kill(options: { withClickHouse: boolean }): Promise<number[]>;
  /** Starts it again on its ports; resolves when it is ready, with the number of attempts, or rejects when that takes too long. */
  restart(): Promise<number>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

const READY_MS_MAX = patience(60_000);
const ATTEMPT_PAUSE_MS = 200;
/** Short flushes: more of the kills fall between the marker of a range and its commit. */
const SETTINGS = { FLUSH_INTERVAL: "50ms", LOG_LEVEL: "warn" };

/** Resolves when it is ready, on free ports. */
export async function startKillable(dataDir: string): Promise<StandaloneProcess> {
  const startOn = (ports: Record<string, string>) => startStandalone({ dataDir, env: { ...SETTINGS, ...ports } });
  let current = await startOn({});
  const { url, clickhouseUrl } = current;
  const children = new Set<number>();

  async function clickhousePid(): Promise<number | undefined> {
    const [pid] = await childrenOf(current.process.pid);
    if (pid !== undefined) children.add(pid);
    return pid;
  }

  return {
    url,
    clickhouseUrl,
    get pid() {
      return current.process.pid;
    },
    clickhousePid,
    async kill({ withClickHouse }) {
      const child = await clickhousePid();
      const pids = [current.process.pid];
      if (withClickHouse && child !== undefined) pids.push(child);
      for (const pid of pids) process.kill(pid, "SIGKILL");
      await current.process.exited;
      return pids;
    },
    async restart() {
      const ports = { PORT: new URL(url).port, CLICKHOUSE_HTTP_PORT: new URL(clickhouseUrl).port };
      const deadline = performance.now() + READY_MS_MAX;
      for (let attempt = 1; ; attempt++) {
        try {
          current = await startOn(ports);
          return attempt;
        } catch (error) {
          // The ClickHouse child of the one before may still hold the directory, or the disk may be full: again.
          if (performance.now() > deadline) throw error;
        }
        await sleep(ATTEMPT_PAUSE_MS);
      }
    },
    stop: () => current.process.stop("SIGTERM"),
    async [Symbol.asyncDispose]() {
      await clickhousePid();
      await current[Symbol.asyncDispose]();
      await gone(children);
    },
  };
}

/** A child whose parent was killed ends by itself; the directory must not be taken from under it. */
async function gone(pids: ReadonlySet<number>): Promise<void> {
  for (const pid of pids) await until(async () => !(await servesClickHouse(pid)), `process ${pid} ends`);
}

/** Not a process that has got the same id since. */
async function servesClickHouse(pid: number): Promise<boolean> {
  try {
    return /clickhouse[/-]child\./.test(await readFile(`/proc/${pid}/cmdline`, "utf8"));
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
