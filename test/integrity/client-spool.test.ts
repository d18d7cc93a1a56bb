import { expect, it } from "vitest";
import { runSpoolKills } from "../kit/client-spool-run.ts";
import { patience } from "../kit/patience.ts";

it("events captured into the spool become one row each while gateway and client are killed", {
  timeout: patience(60_000),
}, async () => {
  const result = await runSpoolKills({
    events: 12_000,
    eventsPerSecond: 4_000,
    gatewayKills: 1,
    clientKills: 2,
    report: () => {},
  });
  expect(result).toMatchObject({ rows: 12_000, distinct: 12_000, missing: 0, verifyExitCode: 0 });
  // Otherwise the spool was not asked.
  expect(result.recovered).toBeGreaterThan(0);
});
