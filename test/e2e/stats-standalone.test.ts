// From a real host to the history API: `millrace start` and `millrace agent`, as the README has them.
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { askStats, type RunningStandalone, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const WAIT = { timeout: 20_000, interval: 100 };

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
let agent: Spawned;

beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await startStandalone({ dataDir: directory.path, env: { POLL_INTERVAL: "1" } });
  agent = spawnMillrace(["agent", "--server", standalone.relayAddress, "--id", "host-1"]);
});
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await standalone?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

const get = <T>(path: string) => askStats<T>(standalone, path);

it("what an agent measures is at /latest, /hourly and /daily a few polls later", async () => {
  const latest = await vi.waitFor(() => get<{ time: number; value: number }>("/latest/ram_used?host=host-1"), WAIT);
  expect(latest.value).toBeGreaterThan(0);
  expect(Math.abs(latest.time - Date.now() / 1000)).toBeLessThan(30);
  // The use of a CPU is a difference: the first poll can be without it.
  const names = expect.arrayContaining(["cpu_used", "load_1m", "ram_used"]);
  await vi.waitFor(async () => expect(await get("/keys")).toEqual(names), WAIT);
  expect(await get("/tags")).toContain("host");
  const hours = await get<{ value: number }[]>("/hourly/ram_used?host=host-1&verb=max");
  expect(hours.at(-1)?.value).toBeGreaterThan(0);
  expect(Object.values(await get<Record<string, number>>("/daily/ram_used"))[0]).toBeGreaterThan(0);
});

it("/latest has a value at every moment, polls of a second or not", async () => {
  const until = performance.now() + 3_000;
  let asked = 0;
  for (; performance.now() < until; asked++) await get("/latest/ram_used?host=host-1");
  expect(asked).toBeGreaterThan(5);
});

it("the relay's own routes are on the stats port", async () => {
  const { relays } = await get<{ relays: { id: string }[] }>("/relays");
  expect(relays.map(({ id }) => id)).toEqual(["host-1"]);
  const flush = await fetch(`${standalone.statsUrl}/relays/host-1/flush`, { method: "POST" });
  expect(flush.status).toBe(202);
});

it("health of the stats port speaks for log and ClickHouse", async () => {
  expect(await get("/readyz")).toEqual({ status: "ready", checks: { clickhouse: "ok", log: "ok" } });
});

it("told to stop while an agent is connected and a watch is open, it ends in good order", async () => {
  const watch = await fetch(`${standalone.statsUrl}/watch?metric=ram_used`);
  expect(watch.status).toBe(200);
  const watched = watch.text();
  expect(await standalone.process.stop("SIGTERM")).toBe(0);
  await watched.catch(() => undefined);
});
