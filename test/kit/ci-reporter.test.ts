import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";

const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url));
const reporter = fileURLToPath(new URL("./ci-reporter.ts", import.meta.url));
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-reporter-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Runs a suite of its own with the reporter: its exit code, last line and whole output. */
function run(files: Record<string, string>, strict: boolean, slowMs?: number) {
  // In one thread: a process for each file would be most of the work.
  const config = `import { createCiReporter } from ${JSON.stringify(reporter)};
    const reporter = createCiReporter(${JSON.stringify({ strict, slowMs })});
    const one = { pool: "threads", isolate: false, maxWorkers: 1 };
    export default { test: { ...one, globals: true, include: ["*.test.js"], reporters: ["default", reporter] } };`;
  writeFileSync(join(directory, "vitest.config.mjs"), config);
  for (const [name, code] of Object.entries(files)) writeFileSync(join(directory, name), code);
  const env = { ...process.env, NO_COLOR: "1" };
  const { status, stdout } = spawnSync(process.execPath, [vitest, "run"], { cwd: directory, env, encoding: "utf8" });
  return { status, lastLine: stdout.trimEnd().split("\n").at(-1), output: stdout };
}

const PASSING = 'test("a", () => {}); test("b", () => {});';

it("names the ten slowest files, the slowest first, before the last line, and none that are fast", () => {
  expect(run({ "fast.test.js": PASSING }, true).output).not.toContain("slowest");
  const waits = (ms: number) => `test("waits", () => new Promise((resolve) => setTimeout(resolve, ${ms})));`;
  const slow = Array.from({ length: 11 }, (_, n) => [`slow-${n}.test.js`, waits(300 + (n % 2) * 200)]);
  const { lastLine, output } = run(Object.fromEntries(slow), true, 300);
  expect(lastLine).toBe("13 passed, 0 failed");
  const [, listed = ""] = output.split("The slowest files:\n");
  const files = [...listed.matchAll(/^ +(\d+\.\d) s {2}(\S+)$/gm)].map(([, seconds, name]) => ({ seconds, name }));
  expect(files).toHaveLength(10);
  expect(files.map(({ seconds }) => Number(seconds))).toEqual(
    files.map(({ seconds }) => Number(seconds)).sort((a, b) => b - a),
  );
  expect(output.indexOf("The slowest files:")).toBeLessThan(output.lastIndexOf("13 passed"));
});

it("ends with the number of passed tests and exit code 0", () => {
  expect(run({ "a.test.js": PASSING }, true)).toMatchObject({ status: 0, lastLine: "2 passed, 0 failed" });
});

it.each([
  ["a failed test", 'test("c", () => { throw new Error("no"); });'],
  ["a file that does not load", 'throw new Error("no");'],
  ["a file that does not parse", "test("],
  ["a hook that fails", 'describe("s", () => { afterAll(() => { throw new Error("no"); }); test("c", () => {}); });'],
  ["a rejection outside of any test", 'test("c", () => { Promise.reject(new Error("no")); });'],
])("counts %s", (_, code) => {
  const { status, lastLine } = run({ "a.test.js": PASSING, "b.test.js": code }, false);
  expect(lastLine).toMatch(/^[23] passed, 1 failed$/);
  expect(status).toBe(1);
});

it.each([
  ["skipped", 'test.skip("c", () => {});'],
  ["todo", 'test.todo("c");'],
  ["in a skipped suite", 'describe.skip("s", () => { test("c", () => {}); });'],
])("takes a test that is %s for a failure in CI alone, and names it", (_, code) => {
  const files = { "a.test.js": PASSING, "b.test.js": code };
  const strict = run(files, true);
  expect(strict).toMatchObject({ status: 1, lastLine: "2 passed, 1 failed" });
  expect(strict.output).toMatch(/did not run[\s\S]*b\.test\.js > (s > )?c/);
  expect(run(files, false)).toMatchObject({ status: 0, lastLine: "2 passed, 0 failed" });
});
