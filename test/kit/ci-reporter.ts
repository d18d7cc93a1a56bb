// Ends every test run with the files that took longest and one line that people and CI can read: `12 passed, 0 failed`.
import type { Reporter, TestModule } from "vitest/node";

const SLOWEST = 10;
/** Which files are slow is of no interest below this. */
const SLOW_MS = 1_000;

/**
 * Counts tests, files that did not load and errors outside of tests as failures. With `strict`, as in CI, a test that is
 * skipped or still to be written is a failure too: a suite that runs nothing must not look like one that passes.
 */
export function createCiReporter({ strict, slowMs = SLOW_MS }: { strict: boolean; slowMs?: number }): Reporter {
  return {
    onTestRunEnd(modules, errors, reason) {
      const { passed, failed, skipped } = tally(modules);
      let failures = failed + errors.length;
      const lines: string[] = [];
      if (strict && skipped.length > 0) {
        lines.push("These tests did not run, which CI takes for failures:", ...skipped.map((name) => `  ${name}`), "");
        failures += skipped.length;
      } else if (skipped.length > 0) {
        lines.push(`${skipped.length} skipped`);
      }
      lines.unshift(...slowest(modules, slowMs));
      if (reason === "interrupted") {
        lines.push("The run was interrupted.");
        failures += 1;
      }
      lines.push(`${passed} passed, ${failures} failed`);
      if (failures > 0) process.exitCode = 1;
      process.stdout.write(`\n${lines.join("\n")}\n`);
    },
  };
}

/** A line for each of the slowest files, with the seconds it took from its first import to its last hook. */
function slowest(modules: readonly TestModule[], slowMs: number): string[] {
  const taken = modules.map((module) => {
    const { collectDuration, duration, setupDuration } = module.diagnostic();
    const name =
      module.project.name === "" ? module.relativeModuleId : `${module.relativeModuleId} (${module.project.name})`;
    return { name, ms: setupDuration + collectDuration + duration };
  });
  const slow = taken.filter(({ ms }) => ms >= slowMs).sort((a, b) => b.ms - a.ms);
  if (slow.length === 0) return [];
  const lines = slow.slice(0, SLOWEST).map(({ name, ms }) => `${(ms / 1_000).toFixed(1).padStart(7)} s  ${name}`);
  return ["The slowest files:", ...lines, ""];
}

function tally(modules: readonly TestModule[]) {
  const skipped: string[] = [];
  let passed = 0;
  let failed = 0;
  for (const module of modules) {
    // A file that did not load, or whose hooks failed, has no failed test to count.
    if (module.state() === "failed" && module.errors().length > 0) failed += 1;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") passed += 1;
      else if (state === "failed") failed += 1;
      else skipped.push(`${module.relativeModuleId} > ${test.fullName}`);
    }
    for (const suite of module.children.allSuites()) if (suite.errors().length > 0) failed += 1;
  }
  return { passed, failed, skipped };
}
