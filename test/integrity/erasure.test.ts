// A person is erased while everything else goes on, and while consumers die and freeze.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { updatePeople } from "#lib/identity/closure.ts";
import { certify, isClean } from "#lib/identity/erasure/certificate.ts";
import { beginErasure, finishErasure } from "#lib/identity/erasure/erase.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import { type Clock, systemClock } from "#lib/process/clock.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, eventRecord, withAssignments, withInsert } from "../kit/consumer.ts";
import { countsOf, createScene, identify, leftBy, merge, seen, set, storedCounts } from "../kit/erasure.ts";
import { expectedPeople, shownPeople } from "../kit/identity.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

describe("one person among a thousand, while events keep coming", () => {
  it("is gone, everybody else is as they were to the event, and what comes later is a new person's", async () => {
    await using scene = await createScene(clickhouse, "thousand");
    const { stage, warehouse, told } = scene;
    stage.start();
    stage.start();
    const numbers = Array.from({ length: 1000 }, (_, n) => n);
    await scene.tell(
      ...numbers.flatMap((n) => [seen(`anon${n}`), identify(`user${n}`, `anon${n}`), set(`user${n}`, n)]),
    );
    await scene.tell(...numbers.filter((n) => n % 5 === 0).map((n) => merge(`user${n}`, `user${n + 1}`)));
    await scene.settled();
    // The person of the four ids below.
    const ids = ["user500", "anon500", "user501", "anon501"];

    const stop = new AbortController();
    let written = 0;
    const writing = (async () => {
      for (; !stop.signal.aborted; written++) {
        const n = (written * 7) % 1000;
        await scene.tell(
          seen(`user${n}`),
          set(`user${n}`, written),
          seen(`anon${500 + (written % 2)}`),
          set("user501", written),
        );
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    const verdicts: boolean[] = [];
    const auditing = (async () => {
      while (!stop.signal.aborted) verdicts.push(await scene.verify());
    })();
    await until(() => written > 20, "events keep coming");
    const certificate = await scene.erase("anon501");
    stop.abort();
    await Promise.all([writing, auditing]);
    await scene.settled();

    expect(certificate.checks.map(({ count }) => count)).toEqual(certificate.checks.map(() => 0));
    expect(certificate.erasure.ownIds).toEqual(ids.map(personIdOf).sort());
    const left = leftBy(certificate.erasure, told, ids);
    expect(told.length - left.length).toBe(certificate.erased);
    expect(await storedCounts(warehouse)).toEqual(countsOf(left));
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(left));
    expect(left.some(({ distinctId }) => distinctId === "anon500")).toBe(true);
    expect(new Set(verdicts)).toEqual(new Set([true]));
    expect(await scene.verify()).toBe(true);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: left.length }));
  });
});

describe("a person", () => {
  it("does not come back with the range that a dead consumer had in flight", async () => {
    await using scene = await createScene(clickhouse, "inflight", 1);
    const { stage, warehouse } = scene;
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    const dies = withInsert(async ({ table }, insert) => {
      await insert();
      if (table === "identity_edges") mortal.kill();
    });
    stage.start({ ...mortal.options, warehouse: (inner) => mortal.options.warehouse(dies(inner)) });
    await scene.tell(seen("a"), identify("u", "a"), seen("w"), set("u", 1));
    await mortal.died;
    // Its rows are there, its commit is not, and the marker says so.
    const erasing = scene.erase("u");
    await until(async () => Object.keys(await storedCounts(warehouse)).join() === "w", "what is stored is hidden");
    await stage.log.killConsumer(0);
    stage.start();
    const certificate = await erasing;
    expect(isClean(certificate)).toBe(true);
    expect(certificate.erased).toBe(3);
    await scene.settled();
    expect(await storedCounts(warehouse)).toEqual({ w: 1 });
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(leftBy(certificate.erasure, scene.told, ["u", "a"])));
    expect(await scene.verify()).toBe(true);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1 }));
  });

  it("does not come back with facts that a frozen consumer had still to store", async () => {
    await using scene = await createScene(clickhouse, "frozen", 1);
    const { stage, warehouse } = scene;
    let skippedMs = 0;
    const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + skippedMs };
    let assignments = 0;
    const isFrozen = Promise.withResolvers<void>();
    const goesOn = Promise.withResolvers<void>();
    const frozen = stage.start({
      clock,
      // A frozen process hears of nothing: its first assignment is never told that it is lost.
      log: withAssignments((inner) => {
        return assignments++ > 0 ? inner : { ...inner, lost: new AbortController().signal };
      }),
      warehouse: withInsert(async ({ table }, insert) => {
        await insert();
        isFrozen.resolve();
        if (table === "events_raw") await goesOn.promise;
      }),
    });
    await scene.tell(identify("u", "a"), set("u", 1), seen("w"));
    await isFrozen.promise;
    stage.start();
    await stage.log.expelConsumer(0);
    if (stage.log.owners(EVENTS_TOPIC).get(0) !== 1) await stage.log.assign(0, 1);
    const { erasure, ...certificate } = await scene.erase("a");
    expect(isClean({ erasure, ...certificate })).toBe(true);
    skippedMs = 11_000;
    goesOn.resolve();
    await until(() => frozen.warnings.length > 0, "the log refuses a commit of the frozen one");
    expect(isClean(await certify(scene.deps().log, warehouse, erasure))).toBe(true);
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(leftBy(erasure, scene.told, ["u", "a"])));
    expect(await scene.verify()).toBe(true);
  });

  it("is gone with what was not stored yet, and with whom that joins, but not with what came after it", async () => {
    await using scene = await createScene(clickhouse, "tail");
    const { stage, warehouse } = scene;
    const first = stage.start();
    await scene.tell(identify("u", "a"), seen("a"), seen("x"), identify("x", "y"), seen("w"), identify("w", "b"));
    await scene.settled();
    await first[Symbol.asyncDispose]();
    // Nobody consumes these until the command waits for them.
    await scene.tell(seen("u"), set("a", 1), merge("u", "x"), seen("y"), set("w", 2), seen("b"));
    await stage.append(eventRecord({ distinctId: "y", timeUs: 1e17 }));
    const deps = scene.deps();
    const begun = await beginErasure(deps, personIdOf("a"));
    const waits = Promise.withResolvers<void>();
    const onLook = (behind: readonly unknown[]) => {
      if (behind.length > 0) waits.resolve();
    };
    const erasing = finishErasure({ ...deps, onLook }, begun);
    await waits.promise;
    expect(await storedCounts(warehouse)).toEqual({ w: 2, x: 2 });
    expect(await scene.verify()).toBe(true);
    await scene.tell(set("u", 3), identify("a", "new"), merge("w", "y"), seen("x"));
    stage.start();
    const certificate = await erasing;
    expect(isClean(certificate)).toBe(true);
    expect(certificate.erasure.ownIds).toEqual(["a", "u", "x", "y"].map(personIdOf).sort());
    expect(certificate.erased).toBe(9);
    await scene.settled();
    const left = leftBy(certificate.erasure, scene.told, ["a", "u", "x", "y"]);
    expect(await storedCounts(warehouse)).toEqual(countsOf(left));
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(left));
    expect(await scene.verify()).toBe(true);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: left.length }));
  });

  it("is not put together again by a resolver that saw the links before, or read the clock meanwhile", async () => {
    await using scene = await createScene(clickhouse, "resolvers", 1);
    const { stage, warehouse } = scene;
    stage.start();
    await scene.tell(identify("u", "a"), merge("u", "v"), identify("w", "b"));
    await scene.settled();
    const ids = ["u", "a", "v"].map(personIdOf);
    const old = new Map(ids.map((id) => [id, personIdOf("u")]));
    const store = createIdentityStore(warehouse);
    const before = await store.version();
    // Reads the clock at its highest, with the markers stored and the links not yet deleted.
    let highest = before;
    const watched: Warehouse = {
      ...warehouse,
      async command(sql, options) {
        if (sql.includes("identity_edges DELETE")) highest = await store.version();
        await warehouse.command(sql, options);
      },
    };
    const deps = scene.deps({ warehouse: watched });
    const { erasure } = await finishErasure(deps, await beginErasure(deps, personIdOf("v")));
    expect(highest).toBeGreaterThan(before);
    await store.write(old, before);
    await store.write(old, highest);
    expect(isClean(await certify(deps.log, warehouse, erasure))).toBe(true);
    expect(await store.version()).toBeGreaterThan(highest);
    // Who is resolved from now on wins, too.
    await scene.tell(identify("v", "a"), identify("w", "c"));
    await scene.settled();
    await updatePeople([personIdOf("v")], store, 1000);
    const left = leftBy(erasure, scene.told, ["u", "a", "v"]);
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(left));
  });
});
