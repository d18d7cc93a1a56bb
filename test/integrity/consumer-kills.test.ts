import { expect, it } from "vitest";
import { runConsumerKills } from "../kit/consumer-kills.ts";
import { kafkaForTests } from "../kit/kafka.ts";

it.skipIf(!kafkaForTests().available)(
  "loses and doubles nothing while consumers are killed with -9",
  async () => {
    const report = await runConsumerKills({
      seconds: 18,
      eventsPerSecond: 1500,
      pauseMs: { min: 4000, max: 5000 },
      report: () => {},
    });
    expect(report.kills.length).toBeGreaterThanOrEqual(2);
    expect(report.kills.filter(({ inFlight }) => inFlight.length > 0).length).toBeGreaterThanOrEqual(1);
    expect(report).toMatchObject({ lost: 0, doubled: 0, acked: 27_000, rows: 27_000, verifyExitCode: 0 });
  },
  300_000,
);
