// The benchmark's own promises: it says so when rows are missing, and leaves nothing behind, however it ends.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { reportText } from "../../bench/report.ts";
import { expectCounted, type Result } from "../../bench/result.ts";
import { runCases } from "../../bench/runner.ts";

const MAIN = fileURLToPath(new URL("../../bench/main.ts", import.meta.url));
const RESULTS = fileURLToPath(new URL("../../bench/results", import.meta.url));
const MEASURING = ["--only", "gateway-sqlite-connect-protobuf"];
const ENVIRONMENT = { commit: "abc", date: "2026-01-01T00:00:00Z", cpu: "cpu", cores: 2, memoryBytes: 1, node: "v24" };

/** Where the benchmark puts its temporary directories, so that what it leaves can be seen. */
let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "millrace-bench-test-"));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

function startBench(args: readonly string[]): ChildProcess {
  const env = { ...process.env, TMPDIR: scratch };
  return spawn(process.execPath, [MAIN, ...args], { env, stdio: ["ignore", "pipe", "ignore"] });
}

it("measures a case, prints its counted rows and leaves no file", async () => {
  const keptBefore = listing(RESULTS);
  const bench = startBench(["--quick", ...MEASURING]);
  const [stdout, [code]] = await Promise.all([text(bench.stdout as NodeJS.ReadableStream), once(bench, "exit")]);
  expect(code).toBe(0);
  const cells = stdout
    .split("\n")
    .find((line) => line.startsWith("| gateway connect-protobuf on sqlite "))
    ?.split("|")
    .map((cell) => cell.trim());
  expect(Number(cells?.[3])).toBeGreaterThan(0);
  expect(cells?.[3]).toBe(cells?.[2]);
  expect(readdirSync(scratch)).toEqual([]);
  expect(listing(RESULTS)).toEqual(keptBefore);
});

it("ends its processes and removes its files when it is interrupted in a measurement", async () => {
  const bench = startBench(MEASURING);
  const exit = once(bench, "exit");
  const children = await vi.waitUntil(() => measuring(bench), { timeout: 20_000, interval: 50 });
  bench.kill("SIGINT");
  expect((await exit)[0]).toBe(130);
  await vi.waitUntil(() => children.every((pid) => !isRunning(pid)), { timeout: 5_000 });
  expect(readdirSync(scratch)).toEqual([]);
});

it("leaves no process behind when it is killed with -9 in a measurement", async () => {
  const bench = startBench(MEASURING);
  const exit = once(bench, "exit");
  const children = await vi.waitUntil(() => measuring(bench), { timeout: 20_000, interval: 50 });
  bench.kill("SIGKILL");
  await exit;
  await vi.waitUntil(() => children.every((pid) => !isRunning(pid)), { timeout: 5_000 });
});

it("fails a case whose counted rows differ from what was acknowledged, names it, and runs the others", async () => {
  const shown: string[] = [];
  const outcome = await runCases(
    [
      ["short", async () => counted(100, 99)],
      ["doubled", async () => counted(100, 101)],
      ["silent", async () => counted(0, 0)],
      ["whole", async () => counted(100, 100)],
    ],
    { quick: true, signal: new AbortController().signal, progress: () => {}, onFailure: (name) => shown.push(name) },
  );
  expect(shown).toEqual(["short", "doubled", "silent"]);
  expect(outcome.results.map(({ rows }) => rows)).toEqual([100]);
  const report = reportText(ENVIRONMENT, outcome);
  expect(report).toContain("FAILED short: 100 events acknowledged, 99 rows counted");
  expect(report).toContain("FAILED doubled: 100 events acknowledged, 101 rows counted");
  expect(report).toContain("FAILED silent: nothing was acknowledged");
});

it("shows a missed target as missed, in both directions", () => {
  const targets = [
    { what: "cost", measured: 12, limit: 12 },
    { what: "rate", measured: 99, limit: 100, atLeast: true },
    { what: "lag", measured: 1, limit: 5 },
  ];
  const report = reportText(ENVIRONMENT, { results: [{ ...counted(1, 1), targets }], failures: [] });
  expect(report).toContain("MISSED: cost 12 (below 12); MISSED: rate 99 (at least 100); met: lag 1 (below 5)");
});

function counted(acked: number, rows: number): Result {
  expectCounted(acked, rows);
  return { name: "case", events: acked, acked, rows, seconds: 1, targets: [], note: "" };
}

/** Process ids once both the process under test and the load generator run. */
function measuring(bench: ChildProcess): number[] | undefined {
  const path = `/proc/${bench.pid}/task/${bench.pid}/children`;
  const children = existsSync(path) ? readFileSync(path, "utf8").split(" ").filter(Boolean).map(Number) : [];
  return children.length >= 2 ? children : undefined;
}

function isRunning(pid: number): boolean {
  try {
    // A zombie has ended; it only waits for its parent to ask.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

function listing(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
