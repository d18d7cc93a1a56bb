// The controller alone, and with a model of ClickHouse on virtual time: steps, bursts, a slow disk.
import { describe, expect, it } from "vitest";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { createClickHouseModel, type Model, type Moment, PARTS_DELAY } from "../../test/kit/clickhouse-model.ts";
import { type BatchWaits, chooseWait, createBatchWaits, IDLE_WAIT_MS } from "./batch-wait.ts";

const MAX_MS = 5000;
const IDLE = { insertMs: 15, partitions: 1, partsShare: 0.01, sinceBusyMs: Number.POSITIVE_INFINITY };

describe("a batch waits", () => {
  it.each([
    ["100 ms before anything is known", { ...IDLE, insertMs: 0, partitions: 0, partsShare: undefined }, 100, "idle"],
    ["100 ms while inserts are quick", IDLE, 100, "idle"],
    ["longer when an insert takes longer", { ...IDLE, insertMs: 700 }, 300, "inserts"],
    ["longer the more partitions take turns", { ...IDLE, insertMs: 35, partitions: 12 }, 565, "inserts"],
    ["longer when merges fall behind", { ...IDLE, partsShare: 0.22 }, 1000, "parts"],
    ["as long as it may with half as many parts as ClickHouse bears", { ...IDLE, partsShare: 0.6 }, 5000, "parts"],
    ["as long as it may after a refusal", { ...IDLE, sinceBusyMs: 0 }, 5000, "busy"],
    ["less some time after a refusal", { ...IDLE, sinceBusyMs: 24_000 }, 1000, "busy"],
    ["never longer than it may", { ...IDLE, insertMs: 60_000 }, 5000, "inserts"],
  ])("%s", (_, load, ms, reason) => {
    expect(chooseWait(load, MAX_MS)).toEqual({ ms, reason });
  });

  it("at most FLUSH_INTERVAL, also when that is less than 100 ms", () => {
    expect(chooseWait(IDLE, 10)).toEqual({ ms: 10, reason: "idle" });
  });

  it("as long as it may after too many parts, and not for a network's fault", () => {
    const waits = createBatchWaits(MAX_MS, { nowMs: () => 0, monotonicMs: () => 0 });
    const own = waits.assigned();
    const fail = (error: Error) => {
      own.insertBegins();
      own.insertEnds(error);
    };
    fail(new WarehouseError("connection reset", "transient"));
    expect(waits.choose().reason).toBe("idle");
    fail(new WarehouseError("too many parts", "transient", 252));
    expect(waits.choose()).toEqual({ ms: MAX_MS, reason: "busy" });
  });
});

const tuned = (partitions: number) => createClickHouseModel(partitions, (clock) => createBatchWaits(MAX_MS, clock));
/** Always 100 ms: what the model makes of a consumer that measures nothing. */
const fixed = (partitions: number) =>
  createClickHouseModel(
    partitions,
    (clock): BatchWaits => ({
      ...createBatchWaits(MAX_MS, clock),
      assigned: () => ({
        choose: () => ({ ms: IDLE_WAIT_MS, reason: "idle" }),
        insertBegins() {},
        insertEnds() {},
        [Symbol.dispose]() {},
      }),
    }),
  );

const last = (moments: readonly Moment[], seconds: number) => moments.slice(-10 * seconds);
const most = (moments: readonly Moment[], of: "waitMs" | "parts" | "behindMs" | "refused") =>
  Math.max(...moments.map((moment) => moment[of]));
const least = (moments: readonly Moment[], of: "waitMs") => Math.min(...moments.map((moment) => moment[of]));
const mean = (moments: readonly Moment[]) => moments.reduce((sum, { waitMs }) => sum + waitMs, 0) / moments.length;

describe("with a model of ClickHouse", () => {
  it("it stays at 100 ms for a trickle, and rows are there within 300 ms", () => {
    const moments = tuned(2).run(60, { rowsPerSecond: 20 });
    expect(most(moments, "waitMs")).toBe(IDLE_WAIT_MS);
    expect(most(moments, "behindMs")).toBeLessThan(300);
  });

  it.each([1, 6, 24])("it settles after steps up and down, with %i partitions", (partitions) => {
    const model = tuned(partitions);
    const usual = [1000, 20_000, 60_000, 20_000, 1000].map((rowsPerSecond) => {
      const moments = model.run(60, { rowsPerSecond });
      const settled = last(moments, 20);
      // It does not swing.
      expect(most(settled, "waitMs")).toBeLessThan(2 * least(settled, "waitMs") + 50);
      expect([most(moments, "refused"), most(moments, "parts") < PARTS_DELAY / 2]).toEqual([0, true]);
      expect(most(settled, "behindMs")).toBeLessThan(3 * mean(settled) + 500);
      return mean(settled);
    });
    expect(usual[3]).toBeLessThan(1.2 * (usual[1] as number));
    expect(usual[4]).toBeLessThan(1.2 * (usual[0] as number));
  });

  it("a burst is stored, and 20 s later the wait is what it was", () => {
    const model = tuned(6);
    const usual = mean(last(model.run(60, { rowsPerSecond: 10_000 }), 20));
    const burst = model.run(10, { rowsPerSecond: 150_000 });
    const after = last(model.run(30, { rowsPerSecond: 10_000 }), 10);
    expect(most(burst, "refused")).toBe(0);
    expect(mean(after)).toBeLessThan(1.5 * usual);
    expect(most(after, "behindMs")).toBeLessThan(1000);
  });

  it.each([1, 12])("%i partitions wait for a slow disk, and forget it", (partitions) => {
    const model = tuned(partitions);
    const load = { rowsPerSecond: 20_000 };
    const usual = mean(last(model.run(60, load), 20));
    const slow = model.run(120, { ...load, insertSlowness: 20, mergeSlowness: 20 });
    const after = last(model.run(60, load), 10);
    expect([most(slow, "refused"), most(slow, "parts") < PARTS_DELAY / 2]).toEqual([0, true]);
    expect(most(slow, "behindMs")).toBeLessThan(3 * MAX_MS);
    expect(mean(after)).toBeLessThan(1.5 * usual);
  });

  it("merges that fall behind do not lead to too many parts, as always waiting 100 ms does", () => {
    const run = (model: Model) => model.run(300, { rowsPerSecond: 20_000, mergeSlowness: 60 });
    expect(most(run(fixed(12)), "parts")).toBeGreaterThan(PARTS_DELAY);
    const moments = run(tuned(12));
    expect(most(moments, "parts")).toBeLessThan(PARTS_DELAY / 2);
    expect(most(last(moments, 60), "waitMs")).toBeLessThan(1.5 * least(last(moments, 60), "waitMs"));
  });
});
