// Prometheus and promtool, for tests of rules and dashboards: Debian's package, or whatever is on the PATH.
import { spawnSync } from "node:child_process";

export type PrometheusForTests = { available: true } | { available: false; reason: string };

/** Says loudly what does not run without them, and how to have them. */
export function prometheusForTests(): PrometheusForTests {
  const missing = ["prometheus", "promtool"].filter((program) => spawnSync(program, ["--version"]).status !== 0);
  if (missing.length === 0) return { available: true };
  const reason = `no ${missing.join(" and no ")}: install Prometheus (apt-get install prometheus)`;
  process.stderr.write(`\n*** PROMETHEUS TESTS CANNOT RUN: ${reason} ***\n\n`);
  return { available: false, reason };
}
