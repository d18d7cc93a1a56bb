// One safeguard at a time is turned off, and an interleaving that needs it is played: something is lost or doubled. The same
// interleaving with everything on loses and doubles nothing. So each safeguard is needed, and these checks can fail.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Clock, systemClock } from "#lib/process/clock.ts";
import type { InsertOptions, Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce, type StoredAudit } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import {
  createMortal,
  createStage,
  eventRecord,
  poisonRecord,
  type Stage,
  withAssignments,
  withInsert,
} from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { createSwitches, type Safeguard, type Switches } from "../kit/safeguards.ts";
import { closedSocket, createCut, keepTokenOnly } from "../kit/safeguards-faults.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
/** Its tables remember two tokens each, where production remembers 10,000: two inserts are a long time here. */
let forgetful: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("safeguards");
  await clickhouse.migrate("forgetful");
  warehouse = clickhouse.warehouse("safeguards");
  forgetful = clickhouse.warehouse("forgetful");
  for (const table of ["events_raw", "log_outcomes", "dead_letters"]) {
    await forgetful.command(`ALTER TABLE ${table} MODIFY SETTING non_replicated_deduplication_window = 2`);
  }
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const events = (count: number) => Array.from({ length: count }, () => eventRecord());

/** Plays one interleaving and audits what is stored; `epoch` keeps the two plays apart. */
type Play = (switches: Switches, epoch: string) => Promise<StoredAudit>;

/** The two halves of each proof. */
async function play(interleaving: Play, off?: Safeguard): Promise<StoredAudit> {
  return interleaving(createSwitches(off), `${interleaving.name} ${off ?? "on"}`);
}

/** Holds all who pass until it is opened, and says when the first one is there. */
function createGate() {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  return {
    reached: reached.promise,
    open: () => opened.resolve(),
    async pass(): Promise<void> {
      reached.resolve();
      await opened.promise;
    },
  };
}

describe("the token", () => {
  async function lateAnswer(switches: Switches, epoch: string): Promise<StoredAudit> {
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(20));
    let inserts = 0;
    let land = async () => {};
    const faulty = withInsert(async (_, insert) => {
      // 1. The socket closes while the rows are on their way. 2. The consumer asks, finds nothing, and sends them again.
      if (inserts++ === 0) {
        land = insert;
        throw closedSocket();
      }
      await insert();
      // 3. The first ones land as well.
      if (inserts === 2) await land();
    });
    stage.start({ warehouse: (inner) => switches.warehouse(faulty(inner)) });
    await stage.drained();
    expect(inserts).toBeGreaterThan(1);
    return stage.audit();
  }

  it("off: an insert that lands after it was repeated doubles its rows", async () => {
    const { lost, doubled } = await play(lateAnswer, "token");
    expect(doubled).toHaveLength(20);
    expect(lost).toEqual([]);
  });

  it("on: the same makes each record one row", async () => {
    expect(await play(lateAnswer)).toMatchObject(exactlyOnce({ rows: 20 }));
  });
});

describe("the marker", () => {
  async function lateInsert(switches: Switches, epoch: string): Promise<StoredAudit> {
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(10));
    // 1. A takes offsets 0 to 9 as one range and dies while its insert is on the way to ClickHouse.
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    let land = async () => {};
    stage.start({
      config: { batchSize: 10 },
      isDead: mortal.options.isDead,
      log: (inner) => mortal.options.log(switches.log(inner)),
      warehouse: withInsert(async (_, insert) => {
        land = insert;
        mortal.kill();
        await new Promise(() => {});
      }),
    });
    await mortal.died;
    await stage.log.killConsumer(0);
    // 2. B, which left to itself cuts ranges of 7, stores everything.
    stage.start({ config: { batchSize: 7 }, log: switches.log });
    await stage.drained();
    // 3. A's insert arrives.
    await land();
    return stage.audit();
  }

  it("off: an insert of a dead process that arrives late doubles what its successor cut otherwise", async () => {
    const { lost, doubled } = await play(lateInsert, "marker");
    expect(doubled).toHaveLength(10);
    expect(lost).toEqual([]);
  });

  it("on: the successor has inserted the range under the same token, and the late one adds nothing", async () => {
    expect(await play(lateInsert)).toMatchObject(exactlyOnce({ rows: 10 }));
  });
});

describe("the fence", () => {
  async function twoOwners(switches: Switches, epoch: string): Promise<StoredAudit> {
    await using stage = await createStage(warehouse, { epoch });
    const gate = createGate();
    let insertsOfA = 0;
    // 1. A owns the partition and stores what there is.
    await stage.append(...events(10));
    const a = stage.start({
      config: { batchSize: 10 },
      log: switches.log,
      warehouse: withInsert(async ({ table }, insert) => {
        if (table === "events_raw" && insertsOfA++ > 0) await gate.pass();
        await insert();
      }),
    });
    await stage.drained();
    // 2. B joins, and the partition goes to it.
    let insertsOfB = 0;
    let isWaitingForMore = false;
    const b = stage.start({
      config: { batchSize: 7 },
      log: (inner) =>
        withAssignments((held) => ({
          ...held,
          read(options) {
            isWaitingForMore ||= options.from === 10;
            return held.read(options);
          },
        }))(switches.log(inner)),
      warehouse: withInsert(async ({ table }, insert) => {
        await insert();
        if (table === "events_raw") insertsOfB++;
      }),
    });
    await until(() => isWaitingForMore, "B owns the partition and is where A was");
    // 3. More comes. B stores it in two ranges; A, if nothing holds it back, in one.
    await stage.append(...events(10));
    await until(() => insertsOfB === 2, "B has stored everything");
    gate.open();
    await stage.drained();
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
    return stage.audit();
  }

  it("off: an owner that works on after it lost the partition doubles what the new one stores", async () => {
    const { lost, doubled } = await play(twoOwners, "fence");
    expect(doubled.length).toBeGreaterThanOrEqual(1);
    expect(lost).toEqual([]);
  });

  it("on: the old owner ends with its assignment", async () => {
    expect(await play(twoOwners)).toMatchObject(exactlyOnce({ rows: 20 }));
  });
});

describe("the insert deadline", () => {
  async function frozen(switches: Switches, epoch: string): Promise<StoredAudit> {
    await using stage = await createStage(forgetful, { epoch });
    const gate = createGate();
    let skippedMs = 0;
    const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + skippedMs };
    await stage.append(...events(10));
    // 1. A is frozen when its marker is acknowledged, before it inserts. It hears of nothing that happens from now on.
    let assignments = 0;
    const a = stage.start({
      clock: switches.clock(clock),
      log: withAssignments((held) =>
        assignments++ > 0
          ? held
          : {
              ...held,
              lost: new AbortController().signal,
              async commit(commit) {
                await held.commit(commit);
                await gate.pass();
              },
            },
      ),
    });
    await gate.reached;
    // 2. B gets the partition and stores the range.
    stage.start();
    await stage.log.expelConsumer(0);
    if (stage.log.owners(EVENTS_TOPIC).get(0) !== 1) await stage.log.assign(0, 1);
    await stage.drained();
    // 3. It goes on, until ClickHouse has forgotten the range's token.
    for (let range = 0; range < 3; range++) {
      await stage.append(...events(5));
      await stage.drained();
    }
    // 4. After 11 seconds A wakes up and goes on where it was.
    skippedMs = 11_000;
    gate.open();
    await until(() => a.warnings.length > 0, "the log refuses a commit of A");
    return stage.audit();
  }

  it("off: a process that wakes up after its token is forgotten doubles its range", async () => {
    const { lost, doubled } = await play(frozen, "deadline");
    expect(doubled).toHaveLength(10);
    expect(lost).toEqual([]);
  });

  it("on: it commits its marker again before it inserts, is refused, and inserts nothing", async () => {
    expect(await play(frozen)).toMatchObject(exactlyOnce({ rows: 25 }));
  });
});

describe("the question before an insert is sent again", () => {
  /** Of two partitions' keys, the one of `partition`. */
  async function keyOf(stage: Stage, partition: number): Promise<string> {
    for (let i = 0; ; i++) {
      const [position] = await stage.log.append(EVENTS_TOPIC, [eventRecord({ key: `k${i}` })]);
      if (position?.partition === partition) return `k${i}`;
    }
  }

  /** `table` is that of the insert whose answer is lost; `records` make A insert into it. */
  async function cutOff(
    switches: Switches,
    epoch: string,
    { table, records }: { table: string; records: (key: string) => AppendRecord[] },
  ): Promise<StoredAudit> {
    await using stage = await createStage(forgetful, { epoch, partitions: 2 });
    const [keyOfA, keyOfB] = [await keyOf(stage, 0), await keyOf(stage, 1)];
    const link = createCut();
    let hasLanded = false;
    // 1. A's insert lands, and from then on nothing comes back to A from ClickHouse; the log it still reaches.
    const a = stage.start({
      warehouse: (inner) =>
        switches.warehouse(
          withInsert(async (insertion, insert) => {
            await insert();
            if (insertion.table !== table || hasLanded) return;
            hasLanded = true;
            link.cut();
            throw closedSocket();
          })(link.wrap(inner)),
        ),
    });
    let storedByB = 0;
    stage.start({
      warehouse: withInsert(async (insertion, insert) => {
        await insert();
        if (insertion.table === table) storedByB++;
      }),
    });
    await until(() => stage.log.owners(EVENTS_TOPIC).size === 2, "each has a partition");
    await stage.log.assign(0, 0);
    await stage.log.assign(1, 1);
    await stage.append(...records(keyOfA));
    await until(() => link.met() > 0, "A meets the cut");
    // 2. B goes on, until ClickHouse has forgotten the token.
    for (let range = 0; range < 4; range++) {
      const before = storedByB;
      await stage.append(...records(keyOfB));
      await until(() => storedByB > before, "B stores");
    }
    // 3. A reaches ClickHouse again.
    link.heal();
    await stage.drained(patience(30_000));
    expect(a.failure()).toBeUndefined();
    return stage.audit();
  }

  const rows = { table: "events_raw", records: (key: string) => Array.from({ length: 5 }, () => eventRecord({ key })) };
  const letters = { table: "dead_letters", records: (key: string) => [{ ...poisonRecord, key: Buffer.from(key) }] };
  const outcomes = { ...letters, table: "log_outcomes" };

  it("off: a consumer cut off from ClickHouse alone doubles its range when it is back, its token forgotten", async () => {
    const { lost, doubled } = await cutOff(createSwitches("ask"), "cut off", rows);
    expect(doubled).not.toEqual([]);
    expect(doubled.filter((place) => !place.startsWith("0:"))).toEqual([]);
    expect(lost).toEqual([]);
  });

  it.each([
    ["rows", rows],
    ["dead letters", letters],
    ["outcomes", outcomes],
  ])("on: it finds its %s stored and sends nothing", async (_, what) => {
    const { lost, doubled, deadLetters } = await cutOff(createSwitches(undefined), `cut off ${what.table}`, what);
    expect({ lost, doubled, letters: deadLetters }).toEqual({ lost: [], doubled: [], letters: what === rows ? 0 : 5 });
  });
});

describe("the count after a replay", () => {
  async function tokenWithoutPart(switches: Switches, epoch: string): Promise<StoredAudit> {
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(20));
    let inserts = 0;
    const killed = async (insertion: InsertOptions) => {
      await keepTokenOnly(warehouse, insertion, epoch);
      throw closedSocket();
    };
    // 1. ClickHouse is killed when it has written the token of the insert and not its part.
    // 2. The consumer sends the rows again under the same token: acknowledged, and nothing is added.
    const faulty = withInsert((insertion, insert) => (inserts++ === 0 ? killed(insertion) : insert()));
    stage.start({ warehouse: (inner) => switches.warehouse(faulty(inner)) });
    await stage.drained();
    expect(inserts).toBeGreaterThan(1);
    return stage.audit();
  }

  it("off: rows whose token was kept without them are lost", async () => {
    const { lost, doubled } = await play(tokenWithoutPart, "count");
    expect(lost).toHaveLength(20);
    expect(doubled).toEqual([]);
  });

  it("on: they are missed and sent under another token", async () => {
    expect(await play(tokenWithoutPart)).toMatchObject(exactlyOnce({ rows: 20 }));
  });
});
