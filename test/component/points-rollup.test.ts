// points_5m and its readers, on a scripted log and a real ClickHouse.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { noteNextSlot, retiredPartitions } from "#lib/points/progress.ts";
import { recomputeSlots, SLOT_MS } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { EVENTS, POINTS } from "../../services/consumer/kinds.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, type Stage, withAssignments } from "../kit/consumer.ts";
import {
  allDiffering,
  closed,
  letReadersSee,
  pointRecord,
  pointsStage,
  readRollup,
  rolledRows,
  slotAt,
  slowClock,
} from "../kit/points.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("points");
  warehouse = clickhouse.warehouse("points");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

describe("the roll-up", () => {
  it("shows points once whether their slot is open, just closed, or closed and its raw rows gone", async () => {
    const { stage, clock } = await pointsStage(warehouse, "stages");
    await using _ = stage;
    stage.start({ clock: slowClock });
    const timeUs = slotAt(0) * 1000;
    for (const value of [1, 2.5, 4]) await stage.append(pointRecord({ value, timeUs: timeUs + Math.floor(value) }));
    await stage.drained();
    const expected = [
      {
        ...{ metric: "cpu", tags: { host: "h" }, bucketMs: slotAt(0), origin: "relay" },
        ...{ count: 3, sum: 7.5, min: 1, max: 4, last: 4, median: 2.5 },
      },
    ];
    expect(await readRollup(warehouse, "stages")).toEqual(expected);
    expect(await rolledRows(warehouse, "stages")).toBe(0);

    clock.nowMs = slotAt(2);
    await stage.append(pointRecord({ metric: "later", timeUs: slotAt(2) * 1000 }));
    await closed(warehouse, POINTS, "stages", slotAt(2));
    const seen = async () => (await readRollup(warehouse, "stages")).filter(({ metric }) => metric === "cpu");
    expect(await seen()).toEqual(expected);
    expect(await rolledRows(warehouse, "stages")).toBe(1);

    await letReadersSee(warehouse, "stages");
    expect(await seen()).toEqual(expected);
    await warehouse.command("DELETE FROM points WHERE log_epoch = 'stages' AND metric = 'cpu'");
    expect(await seen()).toEqual(expected);
  });

  it("has late and back-dated points, in the slot in which they arrived", async () => {
    const { stage, clock } = await pointsStage(warehouse, "late");
    await using _ = stage;
    stage.start({ clock: slowClock });
    for (let slot = 0; slot < 4; slot++) {
      clock.nowMs = slotAt(slot);
      // Each of them is of slot 0, the last is from years ago.
      await stage.append(pointRecord({ value: slot, timeUs: slotAt(0) * 1000 + slot }));
      await stage.append(pointRecord({ value: slot, timeUs: 1_000_000_000_000_000 }));
      await stage.drained();
    }
    await closed(warehouse, POINTS, "late", slotAt(3));
    await letReadersSee(warehouse, "late");
    expect(await rolledRows(warehouse, "late")).toBe(6);
    expect(await allDiffering(warehouse, POINTS, "late")).toEqual([]);
    const all = { count: 4, sum: 6, min: 0, max: 3, last: 3 };
    expect(await readRollup(warehouse, "late")).toMatchObject([
      { bucketMs: 1_000_000_000_000 - (1_000_000_000_000 % SLOT_MS), ...all },
      { bucketMs: slotAt(0), ...all },
    ]);
  });

  it("closes the slots of an idle partition by the clock", async () => {
    const { stage } = await pointsStage(warehouse, "idle");
    await using _ = stage;
    const nowMs = slotAt(1) + 61_000;
    await stage.append(pointRecord());
    stage.start({ clock: { ...slowClock, nowMs: () => nowMs } });
    await closed(warehouse, POINTS, "idle", slotAt(1));
    expect(await rolledRows(warehouse, "idle")).toBe(1);
  });

  it("has a row before its commit when the log's time steps back into a closed slot", async () => {
    const { stage, clock } = await pointsStage(warehouse, "back");
    await using _ = stage;
    // As on Kafka, when a broker whose clock is behind takes a partition over.
    const steppingBack = withAssignments((inner) => ({
      ...inner,
      read: async (options) =>
        (await inner.read(options)).map((record) =>
          record.offset === 2 ? { ...record, appendTimeMs: slotAt(0) } : record,
        ),
    }));
    const atCommit: number[] = [];
    const watching = withAssignments((inner) => ({
      ...inner,
      async commit(commit) {
        if (commit.offset === 3) atCommit.push((await allDiffering(warehouse, POINTS, "back")).length);
        return inner.commit(commit);
      },
    }));
    const consumer = stage.start({ clock: slowClock, log: (inner) => watching(steppingBack(inner)) });
    await stage.append(pointRecord());
    clock.nowMs = slotAt(3);
    await stage.append(pointRecord());
    await closed(warehouse, POINTS, "back", slotAt(3));
    await stage.append(pointRecord());
    await stage.drained();
    expect(atCommit).toEqual([0]);
    expect(await stage.metric(consumer, "millrace_rollup_late_slots_total")).toBe(1);
    const [row] = await warehouse.query<{ n: number }>(
      "SELECT toUInt32(sum(count)) AS n FROM points_5m FINAL WHERE log_epoch = 'back'",
    );
    expect(row?.n).toBe(2);
  });

  it("goes on where a consumer that was stopped left it", async () => {
    const { stage, clock } = await pointsStage(warehouse, "restart");
    await using _ = stage;
    await stage.append(pointRecord());
    const first = stage.start({ clock: slowClock });
    await stage.drained();
    await first[Symbol.asyncDispose]();
    clock.nowMs = slotAt(5);
    await stage.append(pointRecord());
    stage.start({ clock: slowClock });
    await closed(warehouse, POINTS, "restart", slotAt(5));
    expect(await rolledRows(warehouse, "restart")).toBe(1);
  });

  it("has what a slot was closed over once the partition has its next owner", async () => {
    const { stage, clock } = await pointsStage(warehouse, "closed-over");
    await using _ = stage;
    await stage.append(pointRecord());
    clock.nowMs = slotAt(1);
    await stage.append(pointRecord());
    const first = stage.start({ clock: slowClock });
    await closed(warehouse, POINTS, "closed-over", slotAt(1));
    await first[Symbol.asyncDispose]();
    // A row of an owner that died before it computed the slot, which an older owner then noted as closed.
    await warehouse.command(
      `INSERT INTO points SELECT * REPLACE (generateUUIDv4() AS uuid, 9 AS value)
       FROM (SELECT * FROM points WHERE log_epoch = 'closed-over' AND log_offset = 0)`,
    );
    const differing = () => allDiffering(warehouse, POINTS, "closed-over");
    expect(await differing()).toEqual([{ slotMs: slotAt(0), rows: 1 }]);
    stage.start({ clock: slowClock });
    await until(async () => (await differing()).length === 0, "the slot is computed again");
  });

  it("is said to lack what may have expired while no consumer was there", async () => {
    const { stage, clock } = await pointsStage(warehouse, "away");
    await using _ = stage;
    await stage.append(pointRecord());
    clock.nowMs = slotAt(1);
    await stage.append(pointRecord());
    const first = stage.start({ clock: slowClock });
    await closed(warehouse, POINTS, "away", slotAt(1));
    await first[Symbol.asyncDispose]();
    await warehouse.command("ALTER TABLE points MODIFY TTL stored_at + INTERVAL 8 HOUR");
    try {
      const second = stage.start({ clock: slowClock });
      const isTold = () => second.warnings.some(({ msg }) => msg.includes("may have expired without being rolled up"));
      await until(isTold, "it is told");
      expect(first.warnings).toEqual([]);
    } finally {
      await warehouse.command("ALTER TABLE points REMOVE TTL");
    }
  });

  it("has values of events as points tagged with their source", async () => {
    const { stage, clock } = await pointsStage(warehouse, "events", EVENTS);
    await using _ = stage;
    const timeUs = slotAt(0) * 1000;
    const sold = (value: number | undefined, source: string) => eventRecord({ event: "sold", value, source, timeUs });
    await stage.append(sold(3, "shop"), sold(5, "shop"), sold(undefined, "shop"), sold(7, ""));
    clock.nowMs = slotAt(1);
    await stage.append(eventRecord());
    stage.start({ clock: slowClock });
    await closed(warehouse, EVENTS, "events", slotAt(1));
    await letReadersSee(warehouse, "events");
    expect(await allDiffering(warehouse, EVENTS, "events")).toEqual([]);
    expect(await readRollup(warehouse, "events")).toMatchObject([
      { metric: "sold", tags: { source: "shop" }, origin: "event", count: 2, sum: 8, bucketMs: slotAt(0) },
      { metric: "sold", tags: {}, origin: "event", count: 1, sum: 7 },
    ]);
  });

  it("closes what was open of an earlier incarnation of the topic", async () => {
    const old = await pointsStage(warehouse, "incarnation-1");
    await old.stage.append(pointRecord());
    old.stage.start({ clock: slowClock });
    await old.stage.drained();
    await old.stage[Symbol.asyncDispose]();
    expect(await rolledRows(warehouse, "incarnation-1")).toBe(0);
    const { stage } = await pointsStage(warehouse, "incarnation-2");
    await using _ = stage;
    stage.start({ clock: slowClock });
    await until(async () => (await rolledRows(warehouse, "incarnation-1")) === 1, "the old epoch is rolled up");
  });

  it("takes only earlier incarnations for retired, never one made after its own", async () => {
    const topic = "remade";
    for (const epoch of ["first", "second", "third"]) {
      const row = `${JSON.stringify([topic, epoch])}\n`;
      const columns = ["log_topic", "log_epoch"];
      await warehouse.insert({ table: "log_epochs", columns, rows: Buffer.from(row), token: epoch });
      await noteNextSlot(warehouse, { epoch, topic, partition: 1 }, slotAt(0), 0);
    }
    const retired = await retiredPartitions(warehouse, topic, "second");
    expect(retired).toEqual([{ origin: { epoch: "first", topic, partition: 1 }, nextMs: slotAt(0) }]);
  });
});

describe("computing slots again", () => {
  const range = { topic: POINTS.topic, partition: 0, fromMs: slotAt(0), toMs: slotAt(2) };

  async function twoSlots(epoch: string): Promise<Stage> {
    const { stage, clock } = await pointsStage(warehouse, epoch);
    await stage.append(pointRecord({ metric: "a" }), pointRecord({ metric: "b", value: 0.1 }));
    clock.nowMs = slotAt(1);
    await stage.append(pointRecord({ metric: "b", value: 0.2 }));
    clock.nowMs = slotAt(2);
    await stage.append(pointRecord());
    stage.start({ clock: slowClock });
    await closed(warehouse, POINTS, epoch, slotAt(2));
    return stage;
  }

  it("follows raw rows that were deleted, and those that were put back", async () => {
    await using stage = await twoSlots("repair");
    const differing = () => allDiffering(warehouse, POINTS, stage.epoch);
    expect(await differing()).toEqual([]);
    const own = `log_epoch = '${stage.epoch}' AND metric = 'a'`;
    await warehouse.command(`CREATE TABLE kept AS points`);
    await warehouse.command(`INSERT INTO kept SELECT * FROM points WHERE ${own}`);
    await warehouse.command(`DELETE FROM points WHERE ${own}`);
    expect(await differing()).toEqual([{ slotMs: slotAt(0), rows: 1 }]);
    await recomputeSlots(warehouse, { ...range, epoch: stage.epoch });
    expect(await differing()).toEqual([]);
    expect(await rolledRows(warehouse, stage.epoch)).toBe(2);

    await warehouse.command("INSERT INTO points SELECT * FROM kept");
    expect(await differing()).toEqual([{ slotMs: slotAt(0), rows: 1 }]);
    await recomputeSlots(warehouse, { ...range, epoch: stage.epoch });
    expect(await differing()).toEqual([]);
    expect(await rolledRows(warehouse, stage.epoch)).toBe(3);
  });

  it("finds a roll-up row that says something else than its raw rows", async () => {
    await using stage = await twoSlots("tampered");
    await warehouse.command(
      `INSERT INTO points_5m SELECT * REPLACE (max + 1 AS max, version + 1 AS version) FROM points_5m FINAL
       WHERE log_epoch = 'tampered' AND metric = 'b' AND slot = toDateTime(${slotAt(1) / 1000})`,
    );
    expect(await allDiffering(warehouse, POINTS, stage.epoch)).toEqual([{ slotMs: slotAt(1), rows: 1 }]);
  });

  it("leaves slots alone whose raw rows may have expired", async () => {
    await using stage = await twoSlots("expired");
    await warehouse.command("ALTER TABLE points MODIFY TTL stored_at + INTERVAL 8 HOUR");
    try {
      await warehouse.command(`DELETE FROM points WHERE log_epoch = '${stage.epoch}'`);
      expect(await recomputeSlots(warehouse, { ...range, epoch: stage.epoch })).toBe(range.toMs);
      expect(await rolledRows(warehouse, stage.epoch)).toBe(3);
      expect(await allDiffering(warehouse, POINTS, stage.epoch)).toEqual([]);
    } finally {
      await warehouse.command("ALTER TABLE points REMOVE TTL");
    }
  });
});
