// Definitions of alerts under several writers: two stores with connections of their own, on a real ClickHouse.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { AlertDefinition } from "../../services/stats/alerts/alert.ts";
import { ALERTS_MAX, type AlertStore, createAlertStore } from "../../services/stats/alerts/store.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let store: AlertStore;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("alerts");
  warehouse = clickhouse.warehouse("alerts");
  store = storeOver(warehouse);
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => warehouse.command("TRUNCATE TABLE alerts"));

function storeOver(own: Pick<Warehouse, "query" | "insert">): AlertStore {
  return createAlertStore({ warehouse: own, nowMs: Date.now });
}

/** A store of another copy, whose writes wait for `until`. */
function heldStore(until: () => Promise<void>): AlertStore {
  const own = clickhouse.warehouse("alerts");
  return storeOver({
    query: own.query,
    async insert(options) {
      await until();
      await own.insert(options);
    },
  });
}

/** Resolves for all once `count` of them wait. */
function meeting(count: number): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let waiting = 0;
  return () => {
    if (++waiting === count) resolve();
    return promise;
  };
}

function definition(metric: string): AlertDefinition {
  return {
    ...{ metric, tags: { host: "a" }, level: "crit", operator: "gt", operatorText: "", threshold: 80 },
    ...{
      thresholdText: undefined,
      durationMs: 300_000,
      durationText: "5m",
      post: "http://h/",
      groupBy: [],
      noData: "keep",
    },
  };
}

it("of two updates from one version one is refused, and the other is what everybody reads", async () => {
  for (let round = 0; round < 5; round++) {
    const { id } = await store.create(definition("first"));
    const together = meeting(2);
    const updates = ["one", "two"].map((metric) => heldStore(together).update(id, definition(metric)));
    const [one, two] = await Promise.allSettled(updates);
    const won = one?.status === "fulfilled" ? one : two;
    const lost = won === one ? two : one;
    expect(lost).toMatchObject({ status: "rejected", reason: { name: "AlertStoreError", kind: "conflict" } });
    expect(won).toMatchObject({ status: "fulfilled", value: { id, version: 2, metric: won === one ? "one" : "two" } });
    expect(await store.get(id)).toEqual(won?.status === "fulfilled" ? won.value : undefined);
  }
});

it("under many writers at once each version belongs to one of them, and the last one is in force", async () => {
  const { id } = await store.create(definition("first"));
  const other = storeOver(clickhouse.warehouse("alerts"));
  const names = Array.from({ length: 24 }, (_, n) => `metric ${n}`);
  const outcomes = await Promise.allSettled(
    names.map((name, n) => (n % 2 === 0 ? store : other).update(id, definition(name))),
  );
  const written = outcomes.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  for (const each of outcomes) if (each.status === "rejected") expect(each.reason).toMatchObject({ kind: "conflict" });
  const versions = written.map(({ version }) => version);
  expect(new Set(versions).size).toBe(versions.length);
  const now = await store.get(id);
  expect(now?.version).toBeGreaterThanOrEqual(Math.max(...versions));
  const last = written.find(({ version }) => version === now?.version);
  if (last) expect(now).toEqual(last);
  await warehouse.command("OPTIMIZE TABLE alerts FINAL");
  expect(await store.list()).toEqual([now]);
});

it("an update that was under way does not bring a deleted alert back", async () => {
  const { id } = await store.create(definition("first"));
  const deleted = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  const late = heldStore(() => {
    reached.resolve();
    return deleted.promise;
  }).update(id, definition("late"));
  await reached.promise;
  await store.delete(id);
  deleted.resolve();
  await expect(late).rejects.toMatchObject({ kind: "not_found" });
  for (const optimise of [false, true]) {
    if (optimise) await warehouse.command("OPTIMIZE TABLE alerts FINAL");
    expect(await store.get(id)).toBeUndefined();
    expect(await store.list()).toEqual([]);
    await expect(store.update(id, definition("again"))).rejects.toMatchObject({ kind: "not_found" });
  }
});

it("two deletions at once and one more are one", async () => {
  const { id } = await store.create(definition("first"));
  const together = meeting(2);
  await Promise.all([heldStore(together).delete(id), heldStore(together).delete(id)]);
  await store.delete(id);
  const [rows] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM alerts WHERE is_deleted = 1");
  expect(Number(rows?.n)).toBe(1);
});

it("a version whose token was written without its row is passed over", async () => {
  const { id } = await store.create(definition("first"));
  const dying = storeOver({
    query: warehouse.query,
    async insert(options) {
      await warehouse.insert(options);
      // As after a kill between the token and the rows.
      await warehouse.command("DELETE FROM alerts WHERE version = 2");
      throw new Error("killed");
    },
  });
  await expect(dying.update(id, definition("lost"))).rejects.toThrow("killed");
  expect(await store.get(id)).toMatchObject({ metric: "first", version: 1 });
  expect(await store.update(id, definition("next"))).toMatchObject({ metric: "next", version: 3 });
  expect(await store.get(id)).toMatchObject({ metric: "next", version: 3 });
});

it("there are at most 1,000 alerts; a deleted one makes room", async () => {
  await warehouse.command(
    `INSERT INTO alerts (alert_id, version, metric, post) SELECT generateUUIDv4(number), 1, 'm', 'http://h/'
     FROM numbers({n:UInt32})`,
    { params: { n: ALERTS_MAX - 1 } },
  );
  const { id } = await store.create(definition("last"));
  await expect(store.create(definition("more"))).rejects.toMatchObject({ kind: "full" });
  expect(await store.list()).toHaveLength(ALERTS_MAX);
  await store.delete(id);
  await store.create(definition("again"));
});
