// One id for one change, whatever dies, is cut off or loses its lease in between: a real ClickHouse, real receivers.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { AlertDefinition } from "../../services/stats/alerts/alert.ts";
import { alertScene, idsOf, insertPoints, memoryLog, type Receiver, startReceiver } from "../kit/alerts-evaluating.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { withInsert } from "../kit/consumer.ts";
import { atMost } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("takeover");
  warehouse = clickhouse.warehouse("takeover");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** A stored alert on a metric of its own. */
const scene = (receiver: Receiver, fields?: Partial<AlertDefinition>) => alertScene(warehouse, receiver, fields);

describe("one change has one id", () => {
  it("when the evaluator dies between storing and sending", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    const stored = Promise.withResolvers<void>();
    // The insert lands, and its process never hears of it.
    const dying = withInsert(async ({ signal }, insert) => {
      await insert();
      stored.resolve();
      await new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    });
    {
      await using first = await s.start({ warehouse: dying(warehouse) });
      await s.arrive(90);
      void first.tick();
      await stored.promise;
    }
    expect(receiver.received).toEqual([]);
    const [change] = await s.stored();
    await using second = await s.start();
    await s.settled(1);
    expect(idsOf(receiver.received)).toEqual([change?.id]);
    await second.tick();
    await s.arrive(1);
    await second.tick();
    const both = await s.settled(2);
    expect(both.map(({ level, previous }) => [level, previous])).toEqual([
      ["crit", "00000000-0000-0000-0000-000000000000"],
      ["ok", change?.id],
    ]);
    expect(idsOf(receiver.received)).toEqual(both.map(({ id }) => id));
  });

  it("when it dies between sending and noting it: sent twice, under the same id", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    const deaf = withInsert(({ columns }, insert) =>
      columns.includes("http_status")
        ? Promise.reject(new WarehouseError("the socket was closed", "transient"))
        : insert(),
    );
    {
      await using first = await s.start({ warehouse: deaf(warehouse) });
      await s.arrive(90);
      await first.tick();
      await until(() => receiver.taken.length === 1, "it is sent");
    }
    await using _second = await s.start();
    const [change] = await s.settled(1);
    expect(idsOf(receiver.taken)).toEqual([change?.id, change?.id]);
  });

  it("when the answer of its insert is lost, or ClickHouse is away for a while", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    let calls = 0;
    const flaky = withInsert(async (_options, insert) => {
      calls++;
      if (calls === 1) throw new WarehouseError("ClickHouse is away", "transient");
      await insert();
      if (calls === 2) throw new WarehouseError("the socket was closed", "transient");
    });
    await using evaluator = await s.start({ warehouse: flaky(warehouse) });
    await s.arrive(90);
    await evaluator.tick();
    const [change] = await s.settled(1);
    expect(idsOf(receiver.received)).toEqual([change?.id]);
    const [rows] = await warehouse.query<{ n: string }>(
      "SELECT count() AS n FROM alert_events WHERE kind = 'transition' AND alert_id = {id:UUID}",
      { params: { id: s.alert.id } },
    );
    expect(Number(rows?.n)).toBe(1);
  });

  it("when two copies both believe to hold the lease", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver, { groupBy: ["host"] });
    await using first = await s.start();
    await using second = await s.start();
    for (const value of [90, 1, 90]) {
      await s.arrive(value, { host: "a" });
      await insertPoints(warehouse, {
        ...{ metric: s.alert.metric, value, arrivedMs: s.nowMs - 2 },
        tags: { host: "b" },
      });
      await Promise.all([first.tick(), second.tick()]);
    }
    const stored = await s.settled(6);
    expect(stored.map(({ level }) => level)).toEqual(["crit", "crit", "ok", "ok", "crit", "crit"]);
    expect(new Set(idsOf(receiver.received))).toEqual(new Set(stored.map(({ id }) => id)));
    for (const { id } of stored) expect(idsOf(receiver.received)).toContain(id);
  });

  it("when a copy that lost the lease has stored it and the next holder has not seen it yet", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    await using holder = await s.start();
    {
      await using zombie = await s.start();
      receiver.behave("hang");
      await s.arrive(90);
      await zombie.tick();
      await until(() => receiver.received.length === 1, "it is under way");
    }
    receiver.behave(200);
    await holder.tick();
    const [change] = await s.settled(1);
    expect(new Set(idsOf(receiver.received))).toEqual(new Set([change?.id]));
    await s.arrive(1);
    await holder.tick();
    expect((await s.settled(2)).map(({ level }) => level)).toEqual(["crit", "ok"]);
  });
});

describe("the lease", () => {
  it("goes to another copy with the levels; who lost it evaluates and sends no more", async () => {
    await using receiver = await startReceiver();
    await using log = await memoryLog().then((own) => ({
      own,
      [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
    }));
    const s = await scene(receiver);
    await using first = await s.start({ log: log.own });
    await s.arrive(90);
    await first.tick();
    await s.settled(1);
    expect(await first.metric("millrace_alerts_lease_held")).toBe(1);
    expect(await first.metric("millrace_alerts_last_evaluation_age_seconds")).toBeLessThan(atMost(5));
    {
      // The log of one process gives its partition to the newest member.
      await using second = await s.start({ log: log.own });
      expect(await first.metric("millrace_alerts_lease_held")).toBe(0);
      expect(await first.metric("millrace_alerts_last_evaluation_age_seconds")).toBeUndefined();
      expect(await second.metric("millrace_alerts_lease_held")).toBe(1);
      await s.arrive(1);
      await second.tick();
      await s.settled(2);
      expect(await first.metric('millrace_alerts_evaluations_total{result="ok"}')).toBe(2);
    }
    await until(async () => (await first.metric("millrace_alerts_lease_held")) === 1, "the first has it again");
    expect(receiver.taken.map(({ payload }) => payload.level)).toEqual(["CRITICAL", "OK"]);
    expect(new Set(idsOf(receiver.received)).size).toBe(2);
  });

  it("lost while an insert is retried ends the evaluation before the next write", async () => {
    await using receiver = await startReceiver();
    await using log = await memoryLog().then((own) => ({
      own,
      [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
    }));
    const s = await scene(receiver);
    let attempts = 0;
    const away = withInsert(() => {
      attempts++;
      return Promise.reject(new WarehouseError("ClickHouse is away", "transient"));
    });
    await using first = await s.start({ log: log.own, warehouse: away(warehouse) });
    await s.arrive(90);
    void first.tick();
    await until(() => attempts > 2, "it retries");
    await using _second = await s.start({ log: log.own });
    const atLoss = attempts;
    await s.settled(1);
    expect(attempts).toBe(atLoss);
    expect(idsOf(receiver.received)).toEqual([(await s.stored())[0]?.id]);
  });

  it("is asked for until the topic is there", async () => {
    await using receiver = await startReceiver();
    await using log = await memoryLog().then((own) => ({
      own,
      [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
    }));
    let refusals = 1;
    const late = {
      ...log.own,
      consume: (options: Parameters<typeof log.own.consume>[0]) =>
        refusals-- > 0 ? Promise.reject(new Error("there is no such topic")) : log.own.consume(options),
    };
    const s = await scene(receiver);
    await using evaluator = await s.start({ log: late });
    expect(await evaluator.metric("millrace_alerts_lease_held")).toBe(1);
  });

  it("outlives an evaluation that fails", async () => {
    await using receiver = await startReceiver();
    const s = await scene(receiver);
    let isAway = true;
    const list = async () => {
      if (isAway) throw new WarehouseError("ClickHouse is away", "transient");
      return [s.alert];
    };
    await using evaluator = await s.start({ store: { list } });
    await s.arrive(90);
    isAway = false;
    await evaluator.tick();
    expect(await s.settled(1)).toMatchObject([{ level: "crit" }]);
    expect(await evaluator.metric('millrace_alerts_evaluations_total{result="failed"}')).toBe(1);
  });
});
