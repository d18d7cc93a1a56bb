import { expect, it } from "vitest";
import { kafkaForTests } from "../kit/kafka.ts";
import { runRelayKills } from "../kit/relay-kills.ts";

/** RELAY_KILLS_SECONDS=300 for longer, RELAY_KILLS_SEED for another order. */
const SECONDS = Number(process.env.RELAY_KILLS_SECONDS ?? 25);
const SEED = Number(process.env.RELAY_KILLS_SEED ?? 1);

it.skipIf(!kafkaForTests().available)(
  "relay, consumers and stats killed with -9 under load: polls are stored once, rolled up, and an alert is told twice",
  async () => {
    const lines: string[] = [];
    const report = await runRelayKills({ seconds: SECONDS, seed: SEED, report: (line) => lines.push(line) });
    if (process.env.RELAY_KILLS_SECONDS)
      process.stderr.write(`${lines.join("\n")}\n${JSON.stringify(report, null, 2)}\n`);
    for (const [command, times] of Object.entries(report.kills)) expect(times, command).toBeGreaterThanOrEqual(1);
    expect(report).toMatchObject({ doubled: 0, foreign: 0, differing: 0, transitions: ["CRITICAL", "OK"] });
    expect(report.share, JSON.stringify(report)).toBeGreaterThanOrEqual(0.99);
    expect(report.answered).toBeGreaterThan(SECONDS * 200);
    expect(report.questions).toBeGreaterThan(SECONDS);
    expect(report.verifyExitCode, report.verifyOutput).toBe(0);
  },
  SECONDS * 1_000 + 180_000,
);
