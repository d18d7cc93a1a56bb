import { expect, it } from "vitest";
import { createMetricsRegistry } from "./metrics.ts";
import { packageVersion } from "./version.ts";

it("has process metrics, the version and the event loop's load", async () => {
  const text = await createMetricsRegistry("gateway").metrics();
  expect(text).toContain("process_cpu_seconds_total");
  expect(text).toContain(`millrace_build_info{service="gateway",version="${packageVersion()}"} 1`);
  expect(text).toMatch(/^millrace_event_loop_utilization_ratio [01](\.\d+)?(e-\d+)?$/m);
});

it("has no metric that needs a fast timer", async () => {
  expect(await createMetricsRegistry("gateway").metrics()).not.toMatch(/eventloop_lag_p99/);
});

it("keeps the registries of several services apart", async () => {
  createMetricsRegistry("gateway");
  expect(await createMetricsRegistry("consumer").metrics()).not.toContain('service="gateway"');
});
