import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { patience } from "../test/kit/patience.ts";
import { createRandom } from "../test/kit/random.ts";
import { runStandaloneChaos } from "./standalone.ts";

/** Two kills and a full disk are its first faults; another seed takes longer, and holds as well. */
const SEED = 34;
const WANTED = ["kill -9: ", "kill -9 with ClickHouse: ", "full disk: "];
const FAULTS_MS_MAX = patience(60_000);

/** Where it puts its disk, so that what it leaves can be seen. */
let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "millrace-chaos-test-"));
  vi.stubEnv("TMPDIR", scratch);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(scratch, { recursive: true, force: true });
});

it("the standalone killed twice and with a full disk has everything acknowledged once, as it was sent", async () => {
  const missing = new Set(WANTED);
  const seen = new AbortController();
  const lines: string[] = [];
  const report = await runStandaloneChaos({
    random: createRandom(SEED).next,
    signal: AbortSignal.any([seen.signal, AbortSignal.timeout(FAULTS_MS_MAX)]),
    eventsPerSecond: 500,
    report(line) {
      lines.push(line);
      for (const fault of missing) if (line.includes(` s: ${fault}`)) missing.delete(fault);
      if (missing.size === 0) seen.abort();
    },
  });
  const text = `${lines.join("\n")}\n${JSON.stringify(report)}`;
  expect([...missing], text).toEqual([]);
  expect(report, text).toMatchObject({ lost: 0, doubled: 0, wrong: 0, verifyExitCode: 0, rows: report.acked });
  expect(report.kills, text).toBeGreaterThanOrEqual(3);
  expect(report.fullDisks, text).toBeGreaterThanOrEqual(1);
  expect(report.retries, "no request met a fault; the run proves nothing").toBeGreaterThan(0);
  expect(report.acked).toBeGreaterThan(500);
  expect(await readdir(scratch)).toEqual([]);
});
