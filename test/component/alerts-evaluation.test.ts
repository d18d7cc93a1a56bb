// Alerts from points to levels: a real ClickHouse, real receivers, a clock and evaluations that the test directs.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Alert, AlertOperator } from "../../services/stats/alerts/alert.ts";
import {
  definitionOf,
  insertPoints,
  type PointAt,
  type Receiver,
  startEvaluator,
  startReceiver,
  storedTransitions,
  type TestEvaluator,
} from "../kit/alerts-evaluating.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let receiver: Receiver;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("evaluation");
  warehouse = clickhouse.warehouse("evaluation");
  receiver = await startReceiver();
});
afterAll(async () => {
  await receiver[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

const START_MS = 1_790_000_000_000;

interface Scene extends AsyncDisposable {
  readonly metric: string;
  readonly evaluator: TestEvaluator;
  alerts: Alert[];
  nowMs: number;
  /** Points of the metric that arrive now. */
  arrive(...points: Omit<PointAt, "metric" | "arrivedMs">[]): Promise<void>;
  /** A minute later: what arrived before is out of a window of a minute. Evaluates. */
  minute(...points: Omit<PointAt, "metric" | "arrivedMs">[]): Promise<void>;
  /** Levels stored of the alert, once all of them are delivered. */
  levels(alert?: Alert): Promise<string[]>;
}

/** One alert on a metric of its own, and an evaluator that has run once. */
async function scene(fields: Partial<Alert> = {}): Promise<Scene> {
  const { metric = `m_${randomUUID()}` } = fields;
  const now = {
    nowMs: START_MS,
    alerts: [{ ...definitionOf(metric, receiver.url), id: randomUUID(), version: 1, ...fields }],
  };
  const evaluator = await startEvaluator({
    warehouse,
    store: { list: async () => now.alerts },
    nowMs: () => now.nowMs,
  });
  await evaluator.idle();
  // The log took them a moment before the evaluation: its window has an exclusive end.
  const arrive: Scene["arrive"] = (...points) =>
    insertPoints(warehouse, ...points.map((point) => ({ metric, arrivedMs: now.nowMs - 1, ...point })));
  return Object.assign(now, {
    metric,
    evaluator,
    arrive,
    async minute(...points: Parameters<typeof arrive>) {
      now.nowMs += 60_000;
      if (points.length > 0) await arrive(...points);
      await evaluator.tick();
    },
    async levels(alert = now.alerts[0] as Alert) {
      const stored = () => storedTransitions(warehouse, alert.id);
      await until(async () => (await stored()).every(({ outcome }) => outcome === "delivered"), "all are delivered");
      return (await stored()).map(({ level }) => level);
    },
    [Symbol.asyncDispose]: () => evaluator[Symbol.asyncDispose](),
  });
}

const told = (alert: Alert | undefined) => receiver.taken.filter(({ payload }) => payload.alertId === alert?.id);

describe("an alert", () => {
  it("tells one breach and one recovery, and nothing while its level stays", async () => {
    await using s = await scene({ tags: { host: "a" } });
    const tags = { host: "a", other: "x" };
    await s.minute({ value: 10, tags });
    await s.minute({ value: 90, tags }, { value: 1000, tags: { host: "b" } });
    await s.minute({ value: 95, tags });
    await s.minute({ value: 80, tags });
    await s.minute({ value: 20, tags });
    expect(await s.levels()).toEqual(["crit", "ok"]);
    const [breach, recovery] = told(s.alerts[0]).map(({ payload }) => payload);
    expect(breach).toMatchObject({
      ...{ id: `[a] ${s.metric}`, message: `[a] ${s.metric} is CRITICAL value:90`, level: "CRITICAL", duration: 0 },
      time: new Date(START_MS + 60_000).toISOString(),
    });
    expect(recovery).toMatchObject({
      ...{ level: "OK", previousLevel: "CRITICAL", message: `[a] ${s.metric} is OK value:80`, duration: 120e9 },
      time: new Date(START_MS + 4 * 60_000).toISOString(),
    });
    const stored = await storedTransitions(warehouse, (s.alerts[0] as Alert).id);
    expect(told(s.alerts[0]).map(({ payload }) => payload.transitionId)).toEqual(stored.map(({ id }) => id));
    expect(stored[1]?.previous).toBe(stored[0]?.id);
    expect(stored).toMatchObject([
      { value: 90, attempts: 1, status: 200 },
      { value: 80, attempts: 1, status: 200 },
    ]);
  });

  // A name of what the standalone's endpoint refuses as code.
  it.each<[string, Partial<Alert>]>([
    ["a metric", { metric: "file" }],
    ["a tag and its value", { tags: { file: "file" } }],
    ["a group", { groupBy: ["file"] }],
  ])("watches %s called file", async (_, fields) => {
    await using s = await scene(fields);
    const tags = { file: "file" };
    await s.minute({ value: 90, tags });
    await s.minute({ value: 1, tags });
    expect(await s.levels()).toEqual(["crit", "ok"]);
  });

  it("compares the mean of exactly the points that arrived in its window, begin inclusive, end exclusive", async () => {
    await using s = await scene({ operator: "eq", threshold: 3 });
    const at = (arrivedMs: number, value: number) => ({ metric: s.metric, arrivedMs, value });
    await insertPoints(warehouse, at(START_MS - 1, 99), at(START_MS, 2), at(START_MS + 59_999, 4));
    await insertPoints(warehouse, at(START_MS + 60_000, 99));
    await s.minute();
    expect(await s.levels()).toEqual(["crit"]);
  });

  it.each<[AlertOperator, boolean[]]>([
    ["lt", [true, false, false]],
    ["le", [true, true, false]],
    ["eq", [false, true, false]],
    ["ne", [true, false, true]],
    ["ge", [false, true, true]],
    ["gt", [false, false, true]],
  ])("with operator %s is in breach below, at and above its threshold as %j", async (operator, breaches) => {
    await using s = await scene({ operator, threshold: -1.5 });
    const seen: boolean[] = [];
    for (const value of [-2, -1.5, -1]) {
      await s.minute({ value });
      seen.push((await s.levels()).at(-1) === "crit");
    }
    expect(seen).toEqual(breaches);
  });

  it("keeps its level while there is no data", async () => {
    await using s = await scene();
    await s.minute();
    await s.minute({ value: 90 });
    await s.minute();
    await s.minute();
    expect(await s.levels()).toEqual(["crit"]);
    await s.minute({ value: 1 });
    expect(await s.levels()).toEqual(["crit", "ok"]);
  });

  it("takes silence as a breach when it is told to", async () => {
    await using s = await scene({ noData: "breach", level: "warn" });
    await s.minute({ value: 1 });
    await s.minute();
    await s.minute();
    expect(await s.levels()).toEqual(["warn", "ok", "warn"]);
    expect(told(s.alerts[0]).at(-1)?.payload).toMatchObject({
      ...{ level: "WARNING", previousLevel: "OK", message: `[] ${s.metric} is WARNING no data` },
      data: { series: [{ values: [[expect.any(String), null]] }] },
    });
  });

  it("is not silenced by hosts whose clocks are wrong", async () => {
    await using s = await scene();
    await s.minute({ value: 90, timeMs: 31_536_000_000 }, { value: 90, timeMs: 4_000_000_000_000 });
    expect(await s.levels()).toEqual(["crit"]);
    await s.minute({ value: 1, timeMs: START_MS + 60_000 });
    expect(await s.levels()).toEqual(["crit", "ok"]);
  });

  it("has a level for each combination of its groupBy tags", async () => {
    await using s = await scene({ groupBy: ["host", "7"], tags: { dc: "x" } });
    const of = (host: string, value: number) => ({ value, tags: { host, dc: "x", "7": "s" } });
    await s.minute(of("a", 90), of("b", 10), { value: 500, tags: { host: "a", dc: "y" } });
    await s.minute(of("a", 90), of("b", 99));
    await s.minute(of("b", 99));
    await s.minute(of("a", 10), of("b", 10));
    await s.levels();
    const seen = told(s.alerts[0]).map(({ payload }) => [payload.group, payload.level, payload.id]);
    const [a, b] = ["a", "b"].map((host) => ({ host, "7": "s" }));
    expect(seen.slice(0, 2)).toEqual([
      [a, "CRITICAL", `[s|x|a] ${s.metric}`],
      [b, "CRITICAL", `[s|x|b] ${s.metric}`],
    ]);
    expect(seen.slice(2)).toHaveLength(2);
    expect(seen.slice(2)).toEqual(expect.arrayContaining([a, b].map((group) => [group, "OK", expect.any(String)])));
  });

  it("notices that a group has fallen silent, also one it never told of", async () => {
    await using s = await scene({ groupBy: ["host"], noData: "breach" });
    await s.minute({ value: 1, tags: { host: "a" } }, { value: 1, tags: { host: "b" } });
    await s.minute({ value: 1, tags: { host: "a" } });
    await s.minute({ value: 1, tags: { host: "a" } });
    expect(await s.levels()).toEqual(["crit"]);
    expect(told(s.alerts[0])[0]?.payload.group).toEqual({ host: "b" });
  });

  it("looks at a thousand groups, and counts the evaluations in which there are more", async () => {
    await using s = await scene({ groupBy: ["host"], threshold: 1e9 });
    const hosts = Array.from({ length: 1001 }, (_, n) => ({ value: n === 1000 ? 2e9 : 1, tags: { host: `h${n}` } }));
    await s.minute(...hosts);
    // In the order of names h1000 is the fourth, h999 the one cut off.
    expect(await s.levels()).toEqual(["crit"]);
    expect(await s.evaluator.metric("millrace_alerts_groups_cut_total")).toBe(1);
  });

  it("goes on from its level when threshold or level change", async () => {
    await using s = await scene();
    await s.minute({ value: 90 });
    s.alerts = s.alerts.map((alert) => ({ ...alert, level: "info", version: 2 }));
    await s.minute({ value: 90 });
    s.alerts = s.alerts.map((alert) => ({ ...alert, threshold: 95, version: 3 }));
    await s.minute({ value: 90 });
    expect(await s.levels()).toEqual(["crit", "info", "ok"]);
    // Since it left OK, not since it became INFO.
    expect(told(s.alerts[0]).at(-1)?.payload).toMatchObject({ previousLevel: "INFO", duration: 120e9 });
  });

  it("ends its level and begins anew when it watches something else", async () => {
    await using s = await scene({ tags: { host: "a" } });
    await s.minute({ value: 90, tags: { host: "a" } });
    await s.levels();
    s.alerts = s.alerts.map((alert) => ({ ...alert, tags: { host: "b" }, version: 2 }));
    await s.minute({ value: 90, tags: { host: "a" } }, { value: 90, tags: { host: "b" } });
    await s.levels();
    const seen = told(s.alerts[0]).map(({ payload }) => [payload.id, payload.level, payload.previousLevel]);
    const [a, b] = ["a", "b"].map((host) => `[${host}] ${s.metric}`);
    expect(seen[0]).toEqual([a, "CRITICAL", "OK"]);
    expect(seen.slice(1).sort()).toEqual([
      [a, "OK", "CRITICAL"],
      [b, "CRITICAL", "OK"],
    ]);
    expect(new Set(told(s.alerts[0]).map(({ payload }) => payload.transitionId)).size).toBe(3);
  });

  it("shares queries with others without sharing their levels, and values never become SQL", async () => {
    const hostile = `x'"\\\`) OR 1=1 -- {a:String}`;
    await using s = await scene();
    const [first] = s.alerts as [Alert];
    const variants = Array.from({ length: 120 }, (_, n) => ({
      ...first,
      id: randomUUID(),
      threshold: n,
      tags: n % 2 === 0 ? {} : { [hostile]: hostile },
    }));
    s.alerts = variants;
    await s.minute({ value: 59.5, tags: { [hostile]: hostile } }, { value: 19.5, tags: {} });
    const rows = await warehouse.query<{ id: string }>(
      "SELECT toString(alert_id) AS id FROM alert_events WHERE kind = 'transition' AND metric = {metric:String}",
      { params: { metric: s.metric } },
    );
    const levels = variants.map(({ id }) => (rows.some((row) => row.id === id) ? "crit" : "ok"));
    // Means: 39.5 of all points, 59.5 of those with the tag.
    expect(levels).toEqual(variants.map((_, n) => ((n % 2 === 0 ? 39.5 : 59.5) > n ? "crit" : "ok")));
  });

  it("whose query is refused silences no other", async () => {
    await using s = await scene();
    const [good] = s.alerts as [Alert];
    const bad = { ...good, id: randomUUID(), durationMs: Number.NaN };
    s.alerts = [bad, good];
    await s.minute({ value: 90 });
    expect(await s.levels(good)).toEqual(["crit"]);
    expect(await s.evaluator.metric("millrace_alerts_refused_total")).toBe(1);
  });
});
