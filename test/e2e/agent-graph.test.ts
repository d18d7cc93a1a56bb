// From a host to a graph and an alert: `millrace start` and `millrace agent` as processes, polled every second; a load that
// an alert watches; and a kill -9 of the standalone, which evaluates alerts, while it tells of the breach.
// AGENT_SECONDS=120 watches the values for as long. AGENT_QUIET_MACHINE=true lets the alert watch `cpu_used` of the whole
// machine, on which nothing else may run then; by default it watches one process, by a collector of its own.
import { spawn } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { idsOf, type Receiver, startReceiver } from "../kit/alerts-evaluating.ts";
import { getWatch } from "../kit/event-source.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { askStats, type RunningStandalone, samePorts, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const SECONDS = Number(process.env.AGENT_SECONDS ?? 3);
const WAIT = { timeout: 30_000, interval: 100 };
const SETTINGS = { POLL_INTERVAL: "1", ALERT_INTERVAL: "1s", WEBHOOK_ALLOW_PRIVATE: "true" };
/** Percent. What else a machine does leaves more than 5 of a core to a process that takes what it gets. */
const WATCHED =
  process.env.AGENT_QUIET_MACHINE === "true"
    ? { metric: "cpu_used", threshold: 90, processes: availableParallelism() }
    : { metric: "burn", threshold: 5, processes: 1 };

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
let agent: Spawned;
let receiver: Receiver;

/** Prints the share of a core that the process named in the file takes, 0 when there is none: 100 ticks are a second. */
function cpuOf(pidFile: string): string {
  const ticks = `awk '{print $14+$15}' "/proc/$(cat ${pidFile} 2>/dev/null || echo none)/stat" 2>/dev/null || echo 0`;
  return `a=$(${ticks}); sleep 0.4; b=$(${ticks}); [ "$b" -ge "$a" ] && echo $(( (b - a) * 5 / 2 )) || echo 0`;
}

beforeAll(async () => {
  directory = await temporaryDirectory();
  receiver = await startReceiver();
  standalone = await startStandalone({ dataDir: join(directory.path, "data"), env: SETTINGS });
  const burn = `burn=${cpuOf(join(directory.path, "pid"))}`;
  agent = spawnMillrace(["agent", "--server", standalone.relayAddress, "--id", "host-1", "--command", burn]);
});
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await standalone?.[Symbol.asyncDispose]();
  await receiver?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

const get = <T>(path: string) => askStats<T>(standalone, path);

it("what an agent measures is at /latest all the time, in /hourly, /daily and on the watch", async () => {
  const filter = "cpu_used?host=host-1";
  await vi.waitFor(() => get(`/latest/${filter}`), WAIT);
  await using watch = await getWatch(Number(new URL(standalone.statsUrl).port), "/watch?metric=cpu_used", {});
  const begun = performance.now();
  for (let asked = 0; performance.now() - begun < SECONDS * 1000; asked++) {
    const { value } = await get<{ value: number }>(`/latest/${filter}`);
    expect(value, `question ${asked}`).toBeGreaterThanOrEqual(0);
    await sleep(100);
  }
  // Every poll is on the watch; a busy machine may be late with a few.
  const atLeast = Math.max(1, Math.floor(SECONDS * 0.9) - 2);
  expect(watch.points().length).toBeGreaterThanOrEqual(atLeast);
  for (const value of watch.points()) expect(value).toBeLessThanOrEqual(100);
  const hours = await get<{ value: number }[]>(`/hourly/${filter}&verb=count`);
  expect(hours.reduce((sum, { value }) => sum + value, 0)).toBeGreaterThanOrEqual(atLeast);
  const [[time, value] = []] = Object.entries(await get<Record<string, number>>(`/daily/${filter}`));
  expect(time).toMatch(/^\d\d:(00|15|30|45)$/);
  expect(value).toBeGreaterThanOrEqual(0);
});

it("an alert fires under load and recovers: two changes are told, whatever dies in between", async () => {
  const { metric, threshold } = WATCHED;
  const alert = { metric, operator: "gt", threshold, duration: "2s", post: receiver.url };
  const made = await fetch(`${standalone.statsUrl}/alerts`, { method: "POST", body: JSON.stringify(alert) });
  expect(made.status, await made.text()).toBe(200);
  await vi.waitFor(() => get(`/latest/${metric}`), WAIT);
  receiver.behave("hang");
  await using load = await burnCpu();
  await vi.waitUntil(() => receiver.received.length > 0, WAIT);
  await standalone.process.stop("SIGKILL");
  receiver.behave(200);
  const env = { ...SETTINGS, ...samePorts(standalone) };
  standalone = await startStandalone({ dataDir: standalone.dataDir, env });
  await vi.waitUntil(() => receiver.taken.length > 0, WAIT);
  await load[Symbol.asyncDispose]();
  await vi.waitUntil(() => receiver.taken.at(-1)?.payload.level === "OK", WAIT);

  // Time for one change too many.
  await sleep(2 * 1000);
  const [breach, recovery, ...others] = [...new Set(idsOf(receiver.received))];
  expect(others).toEqual([]);
  const levels = new Map(receiver.received.map(({ payload }) => [payload.transitionId, payload.level]));
  expect([levels.get(breach ?? ""), levels.get(recovery ?? "")]).toEqual(["CRITICAL", "OK"]);
  expect(new Set(idsOf(receiver.taken))).toEqual(new Set([breach, recovery]));
  // The one that was hung on to by the killed process came again, under its id.
  expect(idsOf(receiver.received).filter((id) => id === breach).length).toBeGreaterThanOrEqual(2);
});

/** Processes that do nothing but count; a collector can find the first. */
async function burnCpu(): Promise<AsyncDisposable> {
  const pidFile = join(directory.path, "pid");
  const children = Array.from({ length: WATCHED.processes }, () =>
    spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" }),
  );
  const ended = Promise.all(children.map((child) => new Promise((resolve) => child.once("exit", resolve))));
  await writeFile(pidFile, String(children[0]?.pid));
  return {
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      await ended;
      await rm(pidFile, { force: true });
    },
  };
}
