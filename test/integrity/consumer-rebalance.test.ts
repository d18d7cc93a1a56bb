// Partitions that move while something is under way: zombies, revocations in the middle of a flush, refused commits.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AssignmentLostError, LogUnavailableError } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Clock, systemClock } from "#lib/process/clock.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf, type Stage, withAssignments, withInsert } from "../kit/consumer.ts";
import { atMost } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("rebalance");
  warehouse = clickhouse.warehouse("rebalance");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const events = (count: number) => Array.from({ length: count }, (_, n) => eventRecord({ id: idOf(n) }));

/** A gate that the first passer waits at until it is opened. */
function createGate() {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  let isPassed = false;
  return {
    reached: reached.promise,
    open: () => opened.resolve(),
    async pass(): Promise<void> {
      if (isPassed) return;
      isPassed = true;
      reached.resolve();
      await opened.promise;
    },
  };
}

/** Gives the partition to `consumer`, which may have got it already. */
async function moveTo(stage: Stage, consumer: number): Promise<void> {
  if (stage.log.owners(EVENTS_TOPIC).get(0) !== consumer) await stage.log.assign(0, consumer);
}

describe("a consumer that was frozen while its partition went to another", () => {
  /** A is frozen once its first marker is acknowledged, for `frozenMs` of its clock; meanwhile B takes everything. */
  async function freeze(stage: Stage, frozenMs: number): Promise<{ inserts: number; commits: number }> {
    let skippedMs = 0;
    const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + skippedMs };
    const gate = createGate();
    let inserts = 0;
    let assignments = 0;
    const frozen = stage.start({
      clock,
      // A frozen process hears of nothing: its first assignment is never told that it is lost.
      log: withAssignments((inner) =>
        assignments++ > 0
          ? inner
          : {
              ...inner,
              lost: new AbortController().signal,
              async commit(commit) {
                await inner.commit(commit);
                await gate.pass();
              },
            },
      ),
      warehouse: withInsert(async (options, insert) => {
        if (options.table === "events_raw") inserts++;
        await insert();
      }),
    });
    await gate.reached;
    stage.start();
    await stage.log.expelConsumer(0);
    await moveTo(stage, 1);
    await stage.drained();
    expect(inserts).toBe(0);
    const commits = stage.log.commits.length;
    skippedMs = frozenMs;
    gate.open();
    await until(() => frozen.warnings.length > 0, "the log refuses a commit of the frozen one");
    return { inserts, commits: stage.log.commits.slice(commits).filter(({ accepted }) => accepted).length };
  }

  it("for more than 10 s inserts nothing and commits nothing", async () => {
    await using stage = await createStage(warehouse, { epoch: "zombie-11" });
    await stage.append(...events(20));
    expect(await freeze(stage, 11_000)).toEqual({ inserts: 0, commits: 0 });
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });

  it("for less may insert, and its token makes nothing of it", async () => {
    await using stage = await createStage(warehouse, { epoch: "zombie-5" });
    await stage.append(...events(20));
    expect(await freeze(stage, 5000)).toEqual({ inserts: 1, commits: 0 });
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });
});

describe("a partition revoked in the middle of a flush", () => {
  it.each(["before the insert", "after the insert"])("%s is finished by its next owner", async (moment) => {
    await using stage = await createStage(warehouse, { epoch: `revoked ${moment}` });
    await stage.append(...events(20));
    const gate = createGate();
    stage.start({
      warehouse: withInsert(async (_, insert) => {
        if (moment === "after the insert") await insert();
        await gate.pass();
        if (moment === "before the insert") await insert();
      }),
    });
    await gate.reached;
    stage.start();
    const moved = stage.log.assign(0, 1);
    gate.open();
    await moved;
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });

  it("again and again, loses nothing and doubles nothing", async () => {
    await using stage = await createStage(warehouse, { partitions: 4, epoch: "storm" });
    const config = { batchSize: 20 };
    stage.start({ config });
    stage.start({ config });
    stage.start({ config });
    for (let round = 0; round < 12; round++) {
      await stage.append(...Array.from({ length: 60 }, (_, n) => eventRecord({ distinctId: `d${n}` })));
      if (round % 3 === 2) await stage.log.expelConsumer(round % 2);
      else await stage.log.rebalance();
    }
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 720 }));
  });

  it("while ClickHouse is away, lets go at once", async () => {
    await using stage = await createStage(warehouse, { epoch: "revoked-away" });
    await stage.append(...events(5));
    let tries = 0;
    stage.start({
      warehouse: withInsert(async () => {
        tries++;
        throw new WarehouseError("away", "transient");
      }),
    });
    await until(() => tries > 2, "the insert is being retried");
    stage.start();
    const begun = performance.now();
    await stage.log.assign(0, 1);
    expect(performance.now() - begun).toBeLessThan(atMost(1000));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 5 }));
  });
});

describe("a commit", () => {
  const unavailable = () => new LogUnavailableError("the coordinator is away");

  it.each([
    ["that the log could not take", false],
    ["that the log took without saying so", true],
  ])("%s makes the partition start over", async (name, landed) => {
    for (const skipped of [0, 1, 2, 3]) {
      const epoch = `${name} ${skipped}`;
      await using stage = await createStage(warehouse, { epoch });
      await stage.append(...events(20));
      let commits = 0;
      const consumer = stage.start({
        config: { batchSize: 10 },
        log: withAssignments((inner) => ({
          ...inner,
          async commit(commit) {
            if (commits++ === skipped) stage.log.failNextCommit(unavailable(), landed);
            await inner.commit(commit);
          },
        })),
      });
      await stage.drained();
      expect(consumer.warnings.map(({ msg }) => msg)).toContain("event log unavailable, starting the partition over");
      expect(await stage.audit(), `commit ${skipped}`).toMatchObject(exactlyOnce({ rows: 20 }));
    }
  });

  it("refused although the assignment was never lost makes the partition start over, not stand still", async () => {
    await using stage = await createStage(warehouse, { epoch: "refused" });
    await stage.append(...events(20));
    stage.log.failNextCommit(new AssignmentLostError("not yours, says the log"));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });

  it("of an old assignment is not sent under a new one", async () => {
    await using stage = await createStage(warehouse, { epoch: "stale" });
    await stage.append(...events(10));
    const gate = createGate();
    stage.start({
      warehouse: withInsert(async (_, insert) => {
        await insert();
        await gate.pass();
      }),
    });
    await gate.reached;
    // The same consumer gets the partition again while its old flush hangs after the insert.
    await stage.log.expelConsumer(0);
    await stage.drained();
    const commits = stage.log.commits.length;
    await stage.append(eventRecord());
    gate.open();
    await stage.drained();
    const later = stage.log.commits.slice(commits).filter(({ accepted }) => accepted);
    expect(Math.min(...later.map(({ offset }) => offset))).toBeGreaterThanOrEqual(10);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 11 }));
  });
});

it("bounds that cannot be read make the partition start over", async () => {
  await using stage = await createStage(warehouse, { epoch: "bounds" });
  await stage.append(...events(20));
  let failures = 0;
  stage.start({
    log: withAssignments((inner) => ({
      ...inner,
      async bounds() {
        if (failures++ < 2) throw new LogUnavailableError("no leader");
        return inner.bounds();
      },
    })),
  });
  await stage.drained();
  expect(failures).toBeGreaterThan(2);
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
});

it("a failure that nobody foresaw ends the consumer with it", async () => {
  await using stage = await createStage(warehouse, { epoch: "bug" });
  await stage.append(...events(5));
  const consumer = stage.start({
    warehouse: withInsert(async () => {
      throw new TypeError("a bug");
    }),
  });
  await until(() => consumer.failure() !== undefined, "the consumer fails");
  expect(consumer.failure()).toMatchObject({ message: "a bug" });
  expect((await stage.log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0)?.offset).toBe(0);
});
