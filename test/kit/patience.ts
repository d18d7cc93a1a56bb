// How long tests wait before they give up: as much longer as this machine, with all it has to do, is slower than one that
// is fast and idle. Measured once, when the run begins; a test that waits for a condition is no slower for it.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";

const VARIABLE = "MILLRACE_TEST_SLOWNESS";
/** What the work below takes on a fast and idle machine. */
const WORK_MS = 200;
const SLOWNESS_MAX = 20;
/** What a test starts runs beside it, and so do other tests: with fewer cores all of them wait for each other. */
const CORES_WANTED = 2;
/** Deadlines are for what hangs. The run itself is load, which no measurement before it sees. */
const SLACK = 2;
/** What is measured waits for others too: four files run at once on two cores. Small, or bounds would say nothing. */
const CROWD = 1.5;

/** Measures the machine for this process and those it starts, unless that is done: MILLRACE_TEST_SLOWNESS=4 sets it. */
export function measureSlowness(): number {
  process.env[VARIABLE] ??= Math.min(SLOWNESS_MAX, Math.max(1, workMs() / WORK_MS) * crowding()).toFixed(2);
  return slowness();
}

/** 1 on a fast and idle machine, 2 on one half as fast. */
export function slowness(): number {
  const number = Number(process.env[VARIABLE] ?? 1);
  return Math.max(1, number);
}

/** A deadline for something that comes sooner unless it hangs. */
export function patience(ms: number): number {
  return Math.ceil(ms * SLACK * slowness());
}

/** A bound that a test puts on a time it has measured, beside other tests. */
export function atMost(ms: number): number {
  return Math.ceil(ms * CROWD * slowness());
}

function crowding(): number {
  return Math.max(1, CORES_WANTED / availableParallelism());
}

/** Starts of processes and plain work, as the tests have both. */
function workMs(): number {
  const begun = performance.now();
  const work =
    "let sum = 0; for (let i = 0; i < 1e7; i += 1) sum = (sum * 31 + i) % 65_521; process.exitCode = sum < 0 ? 1 : 0;";
  for (let n = 0; n < 3; n += 1) spawnSync(process.execPath, ["-e", work], { stdio: "ignore" });
  return performance.now() - begun;
}
