import { describe, expect, it } from "vitest";
import { createRandom } from "../test/kit/random.ts";
import { ALL_KINDS, type FaultKind, KINDS } from "./kinds.ts";
import { type PlannedFault, planFaults } from "./schedule.ts";

const SEEDS = Array.from({ length: 300 }, (_, seed) => seed);

function endOf({ atMs, durationMs, kind }: PlannedFault): number {
  return atMs + durationMs + KINDS[kind].overheadMs;
}

function overlapping(plan: readonly PlannedFault[]): [PlannedFault, PlannedFault][] {
  return plan.flatMap((a, i) =>
    plan
      .slice(i + 1)
      .filter((b) => a.atMs < endOf(b) && b.atMs < endOf(a))
      .map((b): [PlannedFault, PlannedFault] => [a, b]),
  );
}

describe("planFaults", () => {
  it("gives the same plan for the same seed and another one for another seed", () => {
    const plan = planFaults({ seed: 7, minutes: 5 });
    expect(planFaults({ seed: 7, minutes: 5 })).toEqual(plan);
    expect(planFaults({ seed: 8, minutes: 5 })).not.toEqual(plan);
  });

  it("has every kind in five minutes, whatever the seed", () => {
    for (const seed of SEEDS) {
      const kinds = new Set(planFaults({ seed, minutes: 5 }).map(({ kind }) => kind));
      expect([seed, ALL_KINDS.filter((kind) => !kinds.has(kind))]).toEqual([seed, []]);
    }
  });

  it("has every kind twice in ten minutes", () => {
    const plan = planFaults({ seed: 3, minutes: 10 });
    for (const kind of ALL_KINDS) expect(plan.filter((fault) => fault.kind === kind).length).toBeGreaterThan(1);
  });

  it("changes order, targets, times and durations with the seed", () => {
    const plans = SEEDS.map((seed) => planFaults({ seed, minutes: 5 }));
    const of = (kind: FaultKind) => plans.map((plan) => plan.find((fault) => fault.kind === kind) as PlannedFault);
    expect(new Set(plans.map(([first]) => first?.kind)).size).toBeGreaterThan(5);
    expect(new Set(of("kill_consumer").map(({ target }) => target))).toEqual(new Set(KINDS.kill_consumer.targets));
    expect(new Set(of("kill_consumer").map(({ atMs }) => atMs)).size).toBeGreaterThan(250);
    expect(new Set(of("kill_consumer").map(({ durationMs }) => durationMs)).size).toBeGreaterThan(200);
  });

  it("keeps faults of one lane apart, and everything apart from what needs the cluster to itself", () => {
    for (const seed of SEEDS) {
      for (const [a, b] of overlapping(planFaults({ seed, minutes: 5 }))) {
        const lanes = new Set([KINDS[a.kind].lane, KINDS[b.kind].lane]);
        expect([seed, a, b, lanes.size]).toEqual([seed, a, b, 2]);
        if (lanes.has("all")) expect([seed, a, b, lanes.has("aside")]).toEqual([seed, a, b, true]);
      }
    }
  });

  it("lets faults of different lanes overlap", () => {
    expect(overlapping(planFaults({ seed: 1, minutes: 5 })).length).toBeGreaterThan(3);
  });

  it("ends within the run", () => {
    for (const minutes of [0.5, 1, 2, 5, 12]) {
      for (const fault of planFaults({ seed: 5, minutes })) expect(endOf(fault)).toBeLessThanOrEqual(minutes * 60_000);
    }
  });

  it("takes what fits into a shorter run, the quick kinds first", () => {
    for (const seed of SEEDS) {
      const kinds = new Set(planFaults({ seed, minutes: 1 }).map(({ kind }) => kind));
      expect(kinds.size).toBeGreaterThan(7);
      expect(kinds).toContain("restart_gateway");
      expect(kinds).not.toContain("standalone");
    }
  });

  it("plans only the kinds it is asked for", () => {
    const plan = planFaults({ seed: 1, minutes: 2, kinds: ["hang", "kill_broker"] });
    expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(["hang", "kill_broker"]));
  });
});

describe("createRandom", () => {
  it("is uniform enough over a small range", () => {
    const random = createRandom(42);
    const counts = [0, 0, 0, 0, 0];
    for (let i = 0; i < 10_000; i++) (counts[random.integer(0, 4)] as number)++;
    for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(200);
  });

  it("shuffles without losing anything", () => {
    const items = ALL_KINDS;
    const shuffled = createRandom(1).shuffle(items);
    expect(shuffled).not.toEqual(items);
    expect(shuffled.toSorted()).toEqual(items.toSorted());
  });
});
