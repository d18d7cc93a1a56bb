// Metrics of one process: Node's own plus `millrace_build_info`; each module registers its `millrace_…` ones.
import { performance } from "node:perf_hooks";
import { type Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { packageVersion } from "./version.ts";

/** These come from a timer that wakes an idle process 100 times a second; a process that does nothing must cost nothing. */
const COSTLY_METRICS = ["min", "max", "mean", "stddev", "p50", "p90", "p99"].map(
  (statistic) => `nodejs_eventloop_lag_${statistic}_seconds`,
);
const HOUR_MS = 3_600_000;

export function createMetricsRegistry(service: string): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: HOUR_MS });
  for (const name of COSTLY_METRICS) registry.removeSingleMetric(name);
  registerEventLoopUtilization(registry);
  const info = new Gauge({
    name: "millrace_build_info",
    help: "Always 1; the labels say what runs here.",
    labelNames: ["service", "version"],
    registers: [registry],
  });
  info.set({ service, version: packageVersion() }, 1);
  return registry;
}

/**
 * Makes a counter's series of these label values exist from the start: the increase from "no series" to 1 is one that
 * Prometheus does not see, and an alert on a first failure would never fire.
 */
export function startAtZero<Label extends string>(
  counter: Counter<Label>,
  label: Label,
  values: readonly string[],
): void {
  for (const value of values) counter.inc({ [label]: value } as Partial<Record<Label, string>>, 0);
}

function registerEventLoopUtilization(registry: Registry): void {
  let previous = performance.eventLoopUtilization();
  new Gauge({
    name: "millrace_event_loop_utilization_ratio",
    help: "Share of the time since the last scrape in which the event loop was busy; near 1 means overloaded.",
    registers: [registry],
    collect() {
      const current = performance.eventLoopUtilization();
      this.set(performance.eventLoopUtilization(current, previous).utilization);
      previous = current;
    },
  });
}
