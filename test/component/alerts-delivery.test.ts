// Telling receivers that answer, refuse, hang and redirect: a real ClickHouse, real receivers.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { AlertDefinition } from "../../services/stats/alerts/alert.ts";
import { alertScene, idsOf, insertPoints, type Receiver, startReceiver } from "../kit/alerts-evaluating.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("delivery");
  warehouse = clickhouse.warehouse("delivery");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const HOUR_MS = 3_600_000;

/** A stored alert on a metric of its own. */
const scene = (receiver: Receiver, fields?: Partial<AlertDefinition>) => alertScene(warehouse, receiver, fields);

describe("a receiver", () => {
  it("that answers 500 for an hour gets every change, in their order, once it answers again", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    await using evaluator = await s.start();
    receiver.behave(500);
    for (const value of [90, 1, 90]) {
      await s.arrive(value);
      await evaluator.tick();
    }
    s.nowMs += HOUR_MS;
    await until(() => receiver.received.length > 10, "there were several attempts");
    expect(new Set(idsOf(receiver.received)).size).toBe(1);
    receiver.behave(200);
    const stored = await s.settled(3);
    expect(stored.map(({ level, outcome }) => [level, outcome])).toEqual([
      ["crit", "delivered"],
      ["ok", "delivered"],
      ["crit", "delivered"],
    ]);
    expect(idsOf(receiver.taken)).toEqual(stored.map(({ id }) => id));
    expect(stored[0]?.attempts).toBeGreaterThan(10);
    // The same bytes in each try.
    expect(new Set(receiver.received.slice(0, stored[0]?.attempts).map(({ body }) => body)).size).toBe(1);
    expect(await evaluator.metric('millrace_alerts_deliveries_total{result="delivered"}')).toBe(3);
  });

  it("that hangs is cut off, holds up no other, and gets the same change when it is back", async () => {
    await using hanging = await startReceiver();
    await using other = await startReceiver();
    const s = await scene(hanging, { groupBy: ["host"] });
    const t = await scene(other);
    hanging.behave("hang");
    for (let host = 0; host < 20; host++) {
      await insertPoints(warehouse, {
        metric: s.alert.metric,
        value: 90,
        tags: { host: `h${host}` },
        arrivedMs: s.nowMs - 1,
      });
    }
    await insertPoints(warehouse, { metric: t.alert.metric, value: 90, arrivedMs: s.nowMs - 1 });
    const both = { list: async () => [s.alert, t.alert] };
    await using evaluator = await s.start({ store: both, config: { webhookTimeout: patience(150) } });
    await t.settled(1);
    expect(other.taken).toHaveLength(1);
    expect(hanging.received.length).toBeLessThanOrEqual(4);
    expect(await evaluator.metric("millrace_alerts_deliveries_pending")).toBe(20);
    hanging.behave(200);
    const stored = await s.settled(20);
    expect(new Set(idsOf(hanging.taken))).toEqual(new Set(stored.map(({ id }) => id)));
  });

  it("that redirects is not followed; after a day the change is given up and the reason kept", async () => {
    await using receiver = await startReceiver();
    await using inside = await startReceiver();
    receiver.behave({ redirect: inside.url });
    const s = await scene(receiver);
    await using evaluator = await s.start();
    await s.arrive(90);
    await evaluator.tick();
    await until(() => receiver.received.length > 1, "it was tried again");
    s.nowMs += 25 * HOUR_MS;
    const [failed] = await s.settled(1);
    expect(failed).toMatchObject({
      ...{ outcome: "failed", status: 302 },
      error: `redirects are not followed: 302 to ${inside.url}`,
    });
    expect(inside.received).toEqual([]);
    // The next change of the same alert has its own day.
    receiver.behave(200);
    await s.arrive(1);
    await evaluator.tick();
    expect((await s.settled(2)).map(({ outcome }) => outcome)).toEqual(["failed", "delivered"]);
  });

  it("at a private address is never called unless that is allowed", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    await using evaluator = await s.start({ config: { webhookAllowPrivate: false } });
    await s.arrive(90);
    await evaluator.tick();
    await until(
      async () => ((await evaluator.metric('millrace_alerts_deliveries_total{result="retried"}')) ?? 0) > 1,
      "it was refused more than once",
    );
    s.nowMs += 25 * HOUR_MS;
    expect(await s.settled(1)).toMatchObject([
      { outcome: "failed", status: 0, error: expect.stringContaining("127.0.0.1 is a loopback address") },
    ]);
    await expect(evaluator.alerts.testFire(s.alert)).rejects.toThrow("127.0.0.1 is a loopback address");
    expect(receiver.received).toEqual([]);
  });

  it("of an alert that was changed or deleted meanwhile: the new one is told, or nobody", async () => {
    await using wrong = await startReceiver();
    await using right = await startReceiver();
    const s = await scene(wrong);
    await using evaluator = await s.start();
    wrong.behave(404);
    await s.arrive(90);
    await evaluator.tick();
    const { id: _id, version: _version, createdAtMs: _created, updatedAtMs: _updated, ...definition } = s.alert;
    await s.store.update(s.alert.id, { ...definition, post: right.url });
    await evaluator.tick();
    const [told] = await s.settled(1);
    expect(idsOf(right.taken)).toEqual([told?.id]);
    right.behave(500);
    await s.arrive(1);
    await evaluator.tick();
    await s.store.delete(s.alert.id);
    await evaluator.tick();
    expect((await s.settled(2))[1]).toMatchObject({
      ...{ outcome: "failed", error: "the alert was deleted before its receiver could be notified" },
    });
  });

  it("can be tried by hand, from any copy, with nothing stored", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver, { tags: { host: "a" } });
    await using evaluator = await s.start({ config: { webhookSecret: "s3cret" } });
    expect(await evaluator.alerts.testFire(s.alert)).toEqual({ status: 200 });
    expect(receiver.taken[0]?.payload).toMatchObject({
      ...{ test: true, level: "CRITICAL", alertId: s.alert.id, id: `[a] ${s.alert.metric}` },
    });
    expect(receiver.taken[0]?.headers["x-millrace-signature"]).toMatch(/^t=\d+,v1=[0-9a-f]{64}$/);
    receiver.behave(503);
    await expect(evaluator.alerts.testFire(s.alert)).rejects.toMatchObject({ name: "WebhookError", status: 503 });
    expect(await s.stored()).toEqual([]);
  });
});
