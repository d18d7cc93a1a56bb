// Inserts whose answers are lost, or lie: a socket that closes after the rows have landed, a token that was kept while its
// part was not, an insert that lands long after the process that sent it.
import { setTimeout as pause } from "node:timers/promises";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Assignment } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createIdWindow } from "#lib/ledger/id-window.ts";
import { createMarkerKeeper } from "#lib/ledger/marker.ts";
import { createStoredOffsets, type Fates } from "#lib/ledger/stored.ts";
import { systemClock } from "#lib/process/clock.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createFlusher } from "../../services/consumer/flush.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { createConsumerMetrics } from "../../services/consumer/metrics.ts";
import { createEventPreparer } from "../../services/consumer/prepare.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, createStage, eventRecord, idOf, poisonRecord, type Stage, withInsert } from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { closedSocket, keepTokenOnly } from "../kit/safeguards-faults.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("doubt");
  warehouse = clickhouse.warehouse("doubt");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const events = (count: number) => Array.from({ length: count }, (_, n) => eventRecord({ id: idOf(n) }));

async function rowsNow(epoch: string): Promise<number> {
  const rows = await warehouse.query<{ n: string }>(
    "SELECT count() AS n FROM events_raw WHERE log_epoch = {e:String}",
    {
      params: { e: epoch },
    },
  );
  return Number(rows[0]?.n);
}

describe("an insert whose answer is lost", () => {
  const landed = async (insert: () => Promise<void>) => {
    await insert();
    throw closedSocket();
  };
  const vanished = async () => {
    throw closedSocket();
  };
  const hung = async (insert: () => Promise<void>) => {
    await insert();
    await pause(300);
    throw closedSocket();
  };

  it.each([
    ["after it landed", landed, 1],
    ["before it landed", vanished, 1],
    ["after a long silence", hung, 1],
    // What landed is not sent again: these are the rows, the letters and the outcomes.
    ["after it landed, of each table", landed, 3],
    ["before it landed, four times in a row", vanished, 4],
  ])("%s, makes each record one row", async (name, fault, times) => {
    const epoch = `lost ${name}`;
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(50), poisonRecord);
    let faults = 0;
    stage.start({ warehouse: withInsert((_, insert) => (faults++ < times ? fault(insert) : insert())) });
    await stage.drained();
    expect(faults).toBeGreaterThanOrEqual(times);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 50, deadLetters: 1 }));
  });

  it("in every one of ten batches, makes each record one row", async () => {
    await using stage = await createStage(warehouse, { epoch: "ten" });
    await stage.append(...events(100));
    const tokens = new Set<string>();
    stage.start({
      config: { batchSize: 10 },
      warehouse: withInsert(async ({ token, table }, insert) => {
        await insert();
        if (tokens.has(`${table} ${token}`)) return;
        tokens.add(`${table} ${token}`);
        throw closedSocket();
      }),
    });
    await stage.drained();
    expect(tokens.size).toBe(10);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 100 }));
  });

  it("makes no second rows when its second try is refused", async () => {
    const epoch = "refused-later";
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...Array.from({ length: 8 }, () => eventRecord({ event: "later" })));
    let inserts = 0;
    stage.start({
      warehouse: withInsert(async (_, insert) => {
        await insert();
        if (inserts++ > 0) return;
        await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT later CHECK event != 'later'");
        throw closedSocket();
      }),
    });
    await stage.drained();
    await warehouse.command("ALTER TABLE events_raw DROP CONSTRAINT later");
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 8 }));
  });
});

describe("a token that ClickHouse kept without its part", () => {
  it.each([
    ["events_raw", 1],
    ["log_outcomes", 1],
    ["dead_letters", 1],
    ["events_raw", 2],
  ])("in %s, %i times, is found by the count and repaired", async (table, times) => {
    const epoch = `token ${table} ${times}`;
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(20), poisonRecord, ...events(3));
    const tokens = new Set<string>();
    stage.start({
      warehouse: withInsert(async (options, insert) => {
        if (options.table !== table || tokens.size === times || tokens.has(options.token)) return insert();
        tokens.add(options.token);
        await keepTokenOnly(warehouse, options, epoch);
        throw closedSocket();
      }),
    });
    await stage.drained();
    expect(tokens.size).toBe(times);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20, duplicates: 3, deadLetters: 1 }));
  });

  it("is found by the next owner when the first one died with it", async () => {
    const epoch = "token-death";
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(20));
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    stage.start({
      ...mortal.options,
      warehouse: withInsert(async (options) => {
        await keepTokenOnly(warehouse, options, epoch);
        mortal.kill();
        await new Promise(() => {});
      }),
    });
    await mortal.died;
    await stage.log.killConsumer(0);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });

  it("is found by the next owner when it was the bytes of a dead letter's", async () => {
    const epoch = "token-death-letter";
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(3), poisonRecord);
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    stage.start({
      ...mortal.options,
      warehouse: withInsert(async (options, insert) => {
        if (options.table !== "dead_letters") return insert();
        await keepTokenOnly(warehouse, options, epoch);
        mortal.kill();
        await new Promise(() => {});
      }),
    });
    await mortal.died;
    await stage.log.killConsumer(0);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 3, deadLetters: 1 }));
  });

  it("halts the partition when ClickHouse keeps nothing at all, and says what to look at", async () => {
    const epoch = "token-always";
    await using stage = await createStage(warehouse, { epoch });
    await stage.append(...events(5));
    let inserts = 0;
    const consumer = stage.start({
      warehouse: withInsert(async (options) => {
        await keepTokenOnly(warehouse, options, epoch);
        if (inserts++ === 0) throw closedSocket();
      }),
    });
    await until(
      () => consumer.warnings.some(({ msg }) => msg === "partition halted"),
      "the partition halts",
      patience(25_000),
    );
    const check = consumer.checks.find(({ name }) => name === "partitions");
    await expect(check?.check(AbortSignal.timeout(patience(1000)))).rejects.toThrow(
      /offsets 0 to 4 .*millrace verify.*restart/,
    );
    expect((await stage.log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0)?.offset).toBe(0);
  });

  it("loses rows when nobody counts: the count is what finds it", async () => {
    const wholeAlways = (from: number, to: number): Fates => ({
      byOffset: new Map(Array.from({ length: to - from + 1 }, (_, n) => [from + n, "row"] as const)),
      surplus: 0,
    });
    const store = async (epoch: string, isCounting: boolean) => {
      const stage = await createStage(warehouse, { epoch });
      await stage.append(...events(5));
      await flushByHand(stage, isCounting ? undefined : wholeAlways);
      return stage.audit();
    };
    expect(await store("counting", true)).toMatchObject(exactlyOnce({ rows: 5 }));
    expect((await store("not-counting", false)).lost).toHaveLength(5);
  });
});

/** One flush whose token is kept without its part; with `fates`, that is what the flusher is told of ClickHouse. */
async function flushByHand(stage: Stage, fates?: (from: number, to: number) => Fates): Promise<void> {
  const leaving = new AbortController();
  const flushed = Promise.withResolvers<void>();
  let inserts = 0;
  const faulty = withInsert(async (options, insert) => {
    if (inserts++ > 0) return insert();
    await keepTokenOnly(warehouse, options, stage.epoch);
    throw closedSocket();
  })(warehouse);
  const onAssigned = async (assignment: Assignment) => {
    const origin = { epoch: stage.epoch, topic: EVENTS_TOPIC, partition: 0 };
    const stored = createStoredOffsets(faulty, origin, EVENTS.table);
    const window = createIdWindow({ ageMsMax: 1000, offsetsMax: 1000 });
    const flusher = createFlusher({
      ...{ assignment, origin, window, warehouse: faulty, clock: systemClock, logger: pino({ level: "silent" }) },
      stored: fates ? { ...stored, fates: async (from, to) => fates(from, to) } : stored,
      table: EVENTS.table,
      preparer: createEventPreparer(origin, window, stored),
      facts: { store: async () => {} },
      wait: { insertBegins() {}, insertEnds() {} },
      markers: createMarkerKeeper(assignment, stage.epoch, systemClock),
      metrics: createConsumerMetrics(new Registry()),
    });
    const records = await assignment.read({ from: 0, maxRecords: 100, maxBytes: 1e6, maxWaitMs: 0 });
    await flusher.flush(records).then(flushed.resolve, flushed.reject);
  };
  const consuming = stage.log.consume({
    topic: EVENTS_TOPIC,
    group: CONSUMER_GROUP,
    signal: leaving.signal,
    onAssigned,
  });
  await flushed.promise;
  leaving.abort();
  await consuming;
}

describe("an insert of a dead process that is still under way", () => {
  /** A dies while its second insert waits at ClickHouse's door; `land` lets it in. */
  async function dieInserting(stage: Stage): Promise<() => Promise<void>> {
    await stage.append(...events(20), eventRecord(), eventRecord());
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    let land = async () => {};
    let inserts = 0;
    stage.start({
      ...mortal.options,
      config: { batchSize: 10 },
      warehouse: withInsert(async (_, insert) => {
        if (inserts++ === 0) return insert();
        land = insert;
        mortal.kill();
        await new Promise(() => {});
      }),
    });
    await mortal.died;
    await stage.log.killConsumer(0);
    return () => land();
  }

  // Left to itself, the next owner would cut other batches, under other tokens.
  const config = { batchSize: 7 };

  it("adds nothing when it lands just before the next owner's", async () => {
    await using stage = await createStage(warehouse, { epoch: "late-before" });
    const land = await dieInserting(stage);
    let inserts = 0;
    stage.start({
      config,
      warehouse: withInsert(async (_, insert) => {
        // The next owner has found nothing of the range, and is about to insert all of it.
        if (inserts++ === 0) await land();
        await insert();
      }),
    });
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 22 }));
  });

  it("adds nothing when it lands after the next owner's", async () => {
    await using stage = await createStage(warehouse, { epoch: "late-after" });
    const land = await dieInserting(stage);
    stage.start({ config });
    await stage.drained();
    expect(await rowsNow("late-after")).toBe(22);
    await land();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 22 }));
  });

  it("adds nothing when it lands beside the next owner's", async () => {
    await using stage = await createStage(warehouse, { epoch: "late-beside" });
    const land = await dieInserting(stage);
    let inserts = 0;
    stage.start({
      config,
      warehouse: withInsert(async (_, insert) => {
        await Promise.all([inserts++ === 0 ? land() : undefined, insert()]);
      }),
    });
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 22 }));
  });
});
