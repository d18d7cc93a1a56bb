// The chaos run of CI: a minute, a fixed seed, the quick faults. `npm run chaos` is the long form.
import { expect, it } from "vitest";
import type { FaultKind } from "../../chaos/kinds.ts";
import { runChaos } from "../../chaos/run.ts";
import { outcomeText } from "../../chaos/runner.ts";
import { planFaults } from "../../chaos/schedule.ts";
import { kafkaForTests } from "../kit/kafka.ts";

const KINDS: FaultKind[] = [
  "kill_consumer",
  "kill_clickhouse",
  "freeze_consumer",
  "change_consumers",
  "close_after_insert",
  "reset_gateway",
  "reset_clickhouse",
];
/** One whose plan has all kinds in so short a time, and a kill of ClickHouse among lost answers. */
const SEED = 7;
const MINUTES = 50 / 60;

const kafka = kafkaForTests({ ...process.env, KAFKA_BROKERS: "" });

it.skipIf(!kafka.available)(
  "through kills, a zombie, rebalances, resets and lost answers every acknowledged event is stored once, under the right person",
  async () => {
    const plan = planFaults({ seed: SEED, minutes: MINUTES, kinds: KINDS });
    expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(KINDS));
    const lines: string[] = [];
    const report = await runChaos({
      seed: SEED,
      minutes: MINUTES,
      eventsPerSecond: 300,
      plan,
      signal: new AbortController().signal,
      report: (line) => lines.push(line),
      progress: () => undefined,
    });

    const { failures, faults, acked, repeats, audit } = report;
    expect(failures, `${lines.join("\n")}\nlogs: ${report.logs}`).toEqual([]);
    expect(faults.filter(({ isSeen }) => !isSeen).map(outcomeText)).toEqual([]);
    expect(faults).toHaveLength(plan.length);
    expect(audit).toMatchObject({ stored: acked, lost: 0, doubled: 0, altered: 0, unknown: 0, verifyExitCode: 0 });
    expect(audit?.wrongPeople).toBe(0);
    expect(audit?.values.rollup.count).toBeGreaterThan(5_000);
    expect(acked).toBeGreaterThan(5_000);
    // Repetitions came and were recognised, or the run has shown nothing about them.
    expect(repeats).toBeGreaterThan(0);
    expect(audit?.duplicates).toBeGreaterThanOrEqual(repeats);
    // Nor about people, had nobody been identified or joined.
    expect(report.told).toBeGreaterThan(acked / 50);
    expect(audit?.people).toBeLessThan((audit?.distinctIds ?? 0) - 50);
  },
);
