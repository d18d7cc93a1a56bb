// The query module that all faces of stats share: every aggregation over points and over the roll-up.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { noteNextSlot } from "#lib/points/progress.ts";
import { computeSlots, slotOf } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createStatsQueries, type StatsQueries } from "../../services/stats/queries/queries.ts";
import { type Aggregation, VERBS } from "../../services/stats/queries/sql.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { NOW_MS, type StoredPoint, storePoints } from "../kit/stats.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const KEPT_MS = 8 * HOUR_MS;

/** Two hours of two hosts, a value every 50 seconds, none on the border of a window. */
const POINTS: StoredPoint[] = Array.from({ length: 288 }, (_, i) => ({
  metric: "m",
  value: ((i * 7919) % 211) / 4,
  tags: i % 3 === 0 ? { host: "a", dc: "eu" } : { host: "b" },
  agoMs: 500 + Math.floor(i / 2) * 50_000 + i,
}));

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let queries: StatsQueries;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("queries");
  warehouse = clickhouse.warehouse("queries");
  await storePoints(warehouse, [...POINTS, { metric: "other", value: 1, tags: { rack: "r1" }, agoMs: HOUR_MS }]);
  queries = createStatsQueries({
    ...{ warehouse, maxConcurrent: 4, pollMs: MINUTE_MS, flushMs: 1_000, pointsKeptMs: KEPT_MS },
    nowMs: () => NOW_MS,
  });
});
afterAll(() => clickhouse?.[Symbol.asyncDispose]());

/** What each aggregation is, in plain words of code. Oldest first. */
function expected(aggregation: Aggregation, values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const quantile = (level: number) => {
    const at = level * (sorted.length - 1);
    const [low = 0, high = 0] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
    return low + (high - low) * (at - Math.floor(at));
  };
  const sum = values.reduce((total, value) => total + value, 0);
  const mean = sum / values.length;
  if (typeof aggregation === "object") return quantile(aggregation.quantile);
  const [min = 0, max = 0] = [sorted[0], sorted.at(-1)];
  const deviation = Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / (values.length - 1));
  const counts = Map.groupBy(sorted, (value) => value);
  const [mode = 0] = [...counts.values()].toSorted((a, b) => b.length - a.length)[0] ?? [];
  return {
    ...{ mean, sum, min, max, mode, spread: max - min, count: values.length, stddev: deviation },
    ...{ median: quantile(0.5), first: values[0] ?? 0, last: values.at(-1) ?? 0 },
  }[aggregation];
}

function windowsOf(points: readonly StoredPoint[], intervalMs: number): { timeMs: number; values: number[] }[] {
  const ordered = points.toSorted((a, b) => b.agoMs - a.agoMs);
  const beginOf = (point: StoredPoint) => Math.floor((NOW_MS - point.agoMs) / intervalMs) * intervalMs;
  return [...Map.groupBy(ordered, beginOf)].map(([timeMs, each]) => ({
    timeMs,
    values: each.map(({ value }) => value),
  }));
}

const range = { metric: "m", fromMs: NOW_MS - 3 * HOUR_MS, toMs: NOW_MS };
const QUANTILES = [{ quantile: 0 }, { quantile: 0.25 }, { quantile: 0.95 }, { quantile: 1 }];

it("over points, every verb and quantile is exact, at any interval", async () => {
  const aggregations = [...VERBS, ...QUANTILES];
  const found = await queries.series({ ...range, intervalMs: 7 * MINUTE_MS, aggregations });
  const wanted = windowsOf(POINTS, 7 * MINUTE_MS);
  expect(found.map(({ timeMs }) => timeMs)).toEqual(wanted.map(({ timeMs }) => timeMs));
  for (const [i, { values }] of wanted.entries()) {
    for (const [at, aggregation] of aggregations.entries()) {
      const what = `${JSON.stringify(aggregation)} of window ${i}`;
      expect(found[i]?.values[at], what).toBeCloseTo(expected(aggregation, values), 9);
    }
  }
});

it("over the roll-up, all that it holds is exact but for quantiles, which are near", async () => {
  const exact = ["mean", "sum", "min", "max", "count", "spread", "last"] as const;
  const found = await queries.series({
    ...range,
    intervalMs: HOUR_MS,
    aggregations: [...exact, "median", ...QUANTILES],
  });
  const wanted = windowsOf(POINTS, HOUR_MS);
  expect(found.map(({ timeMs }) => timeMs)).toEqual(wanted.map(({ timeMs }) => timeMs));
  for (const [i, { values }] of wanted.entries()) {
    for (const [at, verb] of exact.entries()) expect(found[i]?.values[at]).toBeCloseTo(expected(verb, values), 9);
    const sorted = values.toSorted((x, y) => x - y);
    for (const [at, { quantile }] of [{ quantile: 0.5 }, ...QUANTILES].entries()) {
      const value = found[i]?.values[exact.length + at] ?? Number.NaN;
      const rank = quantile * (sorted.length - 1);
      expect(value).toBeGreaterThanOrEqual(sorted[Math.max(0, Math.floor(rank) - 2)] as number);
      expect(value).toBeLessThanOrEqual(sorted[Math.min(sorted.length - 1, Math.ceil(rank) + 2)] as number);
    }
  }
});

it.each([7 * MINUTE_MS, HOUR_MS])("groups by tags at %d ms: each combination has its windows", async (intervalMs) => {
  const found = await queries.series({ ...range, intervalMs, groupBy: ["host", "dc"], aggregations: ["sum"] });
  const sumOf = (host: string) =>
    POINTS.filter(({ tags }) => tags?.host === host).reduce((total, { value }) => total + value, 0);
  for (const [host, dc] of [
    ["a", "eu"],
    ["b", ""],
  ] as const) {
    const own = found.filter(({ group }) => group.host === host && group.dc === dc);
    expect(own.length).toBeGreaterThan(1);
    expect(own.reduce((total, { values: [sum] }) => total + (sum ?? 0), 0)).toBeCloseTo(sumOf(host), 6);
  }
  expect(found.every(({ group }) => ["a/eu", "b/"].includes(`${group.host}/${group.dc}`))).toBe(true);
});

it("takes fromMs in and leaves toMs out, in points and in the buckets of the roll-up", async () => {
  const begin = Date.UTC(2026, 8, 20, 11);
  const count = async (intervalMs: number, fromMs: number, toMs: number) => {
    const found = await queries.series({ metric: "m", fromMs, toMs, intervalMs, aggregations: ["count"] });
    return found.reduce((total, { values: [n] }) => total + (n ?? 0), 0);
  };
  const within = (fromMs: number, toMs: number) =>
    POINTS.filter(({ agoMs }) => NOW_MS - agoMs >= fromMs && NOW_MS - agoMs < toMs).length;
  expect(await count(MINUTE_MS, begin, begin + HOUR_MS)).toBe(within(begin, begin + HOUR_MS));
  expect(await count(HOUR_MS, begin, begin + HOUR_MS)).toBe(within(begin, begin + HOUR_MS));
  expect(await count(HOUR_MS, begin + 1, begin + HOUR_MS)).toBe(within(begin + 5 * MINUTE_MS, begin + HOUR_MS));
  expect(await count(HOUR_MS, begin, begin + HOUR_MS + 1)).toBe(within(begin, begin + 65 * MINUTE_MS));
});

it("latest has the newest window of each group", async () => {
  const found = await queries.latest({ metric: "m", groupBy: ["host"], aggregations: ["last", "count"] });
  expect(found.map(({ group }) => group.host).toSorted()).toEqual(["a", "b"]);
  const newest = POINTS.find(({ tags }) => tags?.host === "b");
  expect(found.find(({ group }) => group.host === "b")?.values[0]).toBe(newest?.value);
});

it("names metrics, tags and their values, those of one metric as well", async () => {
  expect(await queries.metrics()).toEqual(["m", "other"]);
  expect(await queries.metrics({ filters: { rack: ["r1"] } })).toEqual(["other"]);
  expect(await queries.tags()).toEqual(["dc", "host", "rack"]);
  expect(await queries.tags({ metric: "m" })).toEqual(["dc", "host"]);
  expect(await queries.tagValues("host")).toEqual(["a", "b"]);
  expect(await queries.tagValues("dc", { filters: { host: ["b"] } })).toEqual([]);
});

it("names a metric until nothing of it is left, rolled up or not", async () => {
  const origin = { epoch: "test", topic: POINTS_TOPIC, partition: 0 };
  const toMs = slotOf(NOW_MS - 2 * HOUR_MS);
  const rollUp = () => computeSlots(warehouse, { ...origin, fromMs: toMs - 2 * HOUR_MS, toMs });
  const of = (metric: string) => ({ metric, value: 1, agoMs: 3 * HOUR_MS });
  await storePoints(warehouse, [of("gone"), of("kept")]);
  await rollUp();
  await noteNextSlot(warehouse, origin, toMs, toMs);
  expect(await queries.metrics()).toEqual(["gone", "kept", "m", "other"]);
  await warehouse.command("DELETE FROM points WHERE metric = 'gone'");
  await rollUp();
  expect(await queries.metrics()).toEqual(["kept", "m", "other"]);
});

describe("a question that cannot be answered", () => {
  it.each([
    [
      "begins before single points are kept",
      { fromMs: NOW_MS - KEPT_MS - 1, intervalMs: MINUTE_MS },
      /kept since .*Z only/,
    ],
    ["wants first of the roll-up", { fromMs: NOW_MS - KEPT_MS - 1, aggregations: ["first"] as const }, /kept since/],
    ["has no interval", { intervalMs: 0 }, /longer than nothing/],
    ["has half milliseconds", { fromMs: 1.5 }, /whole milliseconds/],
    ["wants more than all", { aggregations: [{ quantile: 1.01 }] }, /between 0 and 1/],
    ["wants no number", { aggregations: [{ quantile: Number.NaN }] }, /between 0 and 1/],
    ["groups by too much", { groupBy: Array.from({ length: 11 }, (_, i) => `t${i}`) }, /more than 10 tags/],
    ["takes means of odd windows", { over: { meansOfMs: 7 * MINUTE_MS } }, /multiples of 5 minutes/],
    ["has too long a name", { metric: "m".repeat(33_000) }, /too long/],
  ])("%s: invalid", async (_, change, message) => {
    const query = { ...range, intervalMs: HOUR_MS, aggregations: ["mean"] as const, ...change };
    await expect(queries.series(query)).rejects.toMatchObject({
      kind: "invalid",
      message: expect.stringMatching(message),
    });
  });

  it("has too many windows to answer: too much", async () => {
    await warehouse.command(
      `INSERT INTO points (metric, value, time, log_epoch, log_topic, log_partition, log_offset, log_time)
       SELECT 'many', 1, fromUnixTimestamp64Milli(${NOW_MS - HOUR_MS} + number * 20, 'UTC') AS at, 'e', 'millrace.points', 1, number, at
       FROM numbers(120000)`,
    );
    const query = { ...range, metric: "many", intervalMs: 10, aggregations: ["mean"] as const };
    await expect(queries.series(query)).rejects.toMatchObject({ kind: "too_much" });
  });

  it("is given up when its caller goes", async () => {
    const gone = new AbortController();
    const asking = queries.series({ ...range, intervalMs: MINUTE_MS, aggregations: ["mean"], signal: gone.signal });
    gone.abort(new Error("gone"));
    await expect(asking).rejects.toThrow("gone");
  });
});
