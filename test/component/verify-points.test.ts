// `millrace verify` of points and of the roll-up: a scripted log whose records arrived when the test says, and a real
// ClickHouse with the retention of points on.
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STORED_EVENTS, STORED_POINTS } from "#lib/ledger/stored-topics.ts";
import { makePointReplay } from "#lib/letters/replay-point.ts";
import { SLOT_MS, slotOf } from "#lib/points/slots.ts";
import { applyRetentions } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { findingsText } from "../../commands/verify/report.ts";
import { type Finding, isSound, verifyTopic } from "../../commands/verify/verify.ts";
import { EVENTS, POINTS, type TopicKind } from "../../services/consumer/kinds.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, idOf, poisonRecord, type Stage } from "../kit/consumer.ts";
import { closed, letReadersSee, pointRecord, pointsStage, readRollup, rolledRows, slowClock } from "../kit/points.ts";

const HOUR_MS = 3_600_000;

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("verified");
  warehouse = clickhouse.warehouse("verified");
  const retentions = { eventsRetention: undefined, pointsRetention: 8 * HOUR_MS, retention: 7 * 24 * HOUR_MS };
  await applyRetentions(warehouse, retentions, pino({ level: "silent" }));
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** Slot number n of an hour that is within every retention, milliseconds. */
const recent = slotOf(Date.now()) - 12 * SLOT_MS;
const recentSlot = (n: number) => recent + n * SLOT_MS;

function verify(stage: Stage, { topic }: TopicKind, isRepairing = false): Promise<Finding> {
  const kind = topic === POINTS.topic ? STORED_POINTS : STORED_EVENTS;
  const log = { ...stage.log, epoch: async () => stage.epoch };
  return verifyTopic({ log, warehouse, kind }, isRepairing);
}

async function remove(stage: Stage, table: string, where: string): Promise<void> {
  await warehouse.command(`DELETE FROM ${table} WHERE log_epoch = '${stage.epoch}' AND (${where})`);
}

let stages = 0;
/** Two slots with points, two offsets without a point, and a third slot that has the other two closed. */
async function threeSlots(epoch: string): Promise<Stage> {
  // Its own id, or the epochs would look like those of one log.
  stages += 1;
  const { stage, clock } = await pointsStage(warehouse, epoch);
  clock.nowMs = recentSlot(0);
  const first = pointRecord({ id: idOf(stages), value: 1 });
  await stage.append(first, pointRecord({ value: 2 }), poisonRecord, first);
  clock.nowMs = recentSlot(1);
  await stage.append(pointRecord({ value: 4 }), pointRecord({ metric: "ram", value: 8 }));
  clock.nowMs = recentSlot(2);
  await stage.append(pointRecord({ value: 16 }));
  stage.start({ clock: slowClock });
  await stage.drained();
  await closed(warehouse, POINTS, epoch, recentSlot(2));
  await letReadersSee(warehouse, epoch);
  return stage;
}

const rawRows = (epoch: string) =>
  warehouse.query(
    "SELECT * EXCEPT (stored_at), stored_at > now() - INTERVAL 1 HOUR FROM points WHERE log_epoch = {epoch:String} ORDER BY log_offset",
    { params: { epoch } },
  );

describe("points", () => {
  it("are accounted for with the offsets that have none", async () => {
    await using stage = await threeSlots("whole");
    const finding = await verify(stage, POINTS);
    expect(finding).toMatchObject({
      audit: { partitions: [{ from: 0, to: 7, expired: 0, rows: 5, duplicates: 1, deadLetters: 1 }] },
      rollup: { differing: [], skipped: [] },
    });
    expect(isSound(finding)).toBe(true);
  });

  it("that are lost are named by topic, partition and offset, and come back with the roll-up as it was", async () => {
    await using stage = await threeSlots("lost");
    const [rows, series] = [await rawRows("lost"), await readRollup(warehouse, "lost")];
    await remove(stage, "points", "log_offset IN (1, 4, 5, 6)");
    await remove(stage, "log_outcomes", "true");
    await remove(stage, "dead_letters", "true");
    // As if the roll-up had been computed without them, too.
    await warehouse.command(
      `INSERT INTO points_5m SELECT * REPLACE (1 AS is_deleted, version + 1 AS version) FROM points_5m FINAL
       WHERE log_epoch = 'lost' AND metric = 'ram'`,
    );
    const found = await verify(stage, POINTS);
    expect(isSound(found)).toBe(false);
    const text = findingsText([found]);
    expect(text).toMatch(/^topic millrace\.points, epoch lost;/);
    expect(text).toContain("missing: partition 0, offsets 1 to 6\n");
    expect(text).toContain("roll-up: partition 0 not compared, because rows are missing\n");

    const repaired = await verify(stage, POINTS, true);
    expect(repaired).toMatchObject({ repair: { repaired: 6, lost: [] }, rollup: { differing: [] } });
    expect(isSound(repaired)).toBe(true);
    expect(await rawRows("lost")).toEqual(rows);
    expect(await readRollup(warehouse, "lost")).toEqual(series);
    expect(await verify(stage, POINTS, true)).toMatchObject({ repair: undefined, recomputed: 0 });
  });

  it("of which everything that is stored is lost are missed all the same", async () => {
    await using stage = await threeSlots("emptied");
    await remove(stage, "points", "true");
    await remove(stage, "log_outcomes", "true");
    expect(findingsText([await verify(stage, POINTS)])).toContain("missing: partition 0, offsets 0 to 6\n");
  });

  it("past their retention are not missing while the log still has them, and are counted", async () => {
    const { stage, clock } = await pointsStage(warehouse, "expired");
    await using _ = stage;
    clock.nowMs = Date.now() - 9 * HOUR_MS;
    await stage.append(pointRecord(), pointRecord(), poisonRecord);
    clock.nowMs = recentSlot(0);
    await stage.append(pointRecord(), pointRecord());
    stage.start({ clock: slowClock });
    await stage.drained();
    await remove(stage, "points", "log_offset < 2");
    const finding = await verify(stage, POINTS, true);
    expect(finding.audit.partitions).toMatchObject([{ from: 3, to: 5, expired: 3, missing: { count: 0 } }]);
    expect(isSound(finding)).toBe(true);
    expect(findingsText([finding])).toContain(
      "not covered: partition 0, offsets 0 to 2: they arrived longer ago than the tables keep rows; the log still has 3 of them\n",
    );
    await remove(stage, "points", "log_offset = 4");
    expect(findingsText([await verify(stage, POINTS)])).toContain("missing: partition 0, offset 4\n");
  });

  it("of a slot that is open are rolled up as they come back, whether or not a consumer knows of them", async () => {
    const { stage, clock } = await pointsStage(warehouse, "open");
    await using _ = stage;
    clock.nowMs = recentSlot(0);
    await stage.append(pointRecord());
    stage.start({ clock: slowClock });
    await stage.drained();
    await remove(stage, "points", "true");
    expect(await verify(stage, POINTS, true)).toMatchObject({ repair: { repaired: 1 }, recomputed: 0 });
    expect(await rolledRows(warehouse, "open")).toBe(1);
  });

  it("that are replays of one letter, hours apart, come back as they were: the first a row, the other its duplicate", async () => {
    const { stage, clock } = await pointsStage(warehouse, "replays");
    await using _ = stage;
    clock.nowMs = recentSlot(0) - 3 * HOUR_MS;
    const { key, value } = pointRecord({ value: Number.NaN });
    const dead = { ...{ epoch: "replays", topic: POINTS.topic, partition: 0, offset: 0 }, appendTimeMs: clock.nowMs };
    const replayed = (number: number) => {
      const made = makePointReplay({ ...dead, key, value }, { value: number, property: new Map() });
      if (typeof made === "string") throw new Error(made);
      return { key, value: made.value };
    };
    await stage.append({ key, value }, replayed(1));
    clock.nowMs = recentSlot(0);
    await stage.append(replayed(2));
    stage.start({ clock: slowClock });
    await stage.drained();
    const outcomes = () =>
      warehouse.query("SELECT * FROM log_outcomes WHERE log_epoch = 'replays' ORDER BY log_offset");
    const before = [await rawRows("replays"), await outcomes()];
    expect(before.map((rows) => rows.length)).toEqual([1, 2]);
    await remove(stage, "points", "true");
    await remove(stage, "log_outcomes", "true");
    expect(await verify(stage, POINTS, true)).toMatchObject({ repair: { repaired: 3, lost: [] } });
    expect([await rawRows("replays"), await outcomes()]).toEqual(before);
    expect(isSound(await verify(stage, POINTS))).toBe(true);
  });

  it("of one id are one row, or named", async () => {
    await using stage = await threeSlots("twice");
    await warehouse.command(
      `INSERT INTO points SELECT * REPLACE (4 AS log_offset)
       FROM (SELECT * FROM points WHERE log_epoch = 'twice' AND log_offset = 0)`,
    );
    const finding = await verify(stage, POINTS);
    expect(finding.audit.duplicateIds).toMatchObject({ count: 1, examples: [{ id: idOf(stages), times: 2 }] });
    expect(isSound(finding)).toBe(false);
  });
});

describe("the roll-up", () => {
  it("that says something else than its raw rows is named, and computed again", async () => {
    await using stage = await threeSlots("tampered");
    const series = await readRollup(warehouse, "tampered");
    await warehouse.command(
      `INSERT INTO points_5m SELECT * REPLACE (sum + 1 AS sum, version + 1 AS version) FROM points_5m FINAL
       WHERE log_epoch = 'tampered' AND slot = toDateTime(${recentSlot(1) / 1000})`,
    );
    const found = await verify(stage, POINTS);
    expect(isSound(found)).toBe(false);
    const text = findingsText([found]);
    expect(text).toContain(`roll-up: partition 0, slot ${new Date(recentSlot(1)).toISOString()}: 2 rows differ`);
    expect(text).toMatch(/7 offsets accounted for, 0 missing, 0 doubled, 1 slots of the roll-up differ\n$/);
    expect(await verify(stage, POINTS, true)).toMatchObject({ recomputed: 1, rollup: { differing: [] } });
    expect(await readRollup(warehouse, "tampered")).toEqual(series);
  });

  it("has a value of an event again that was lost from the rows and from it", async () => {
    const { stage, clock } = await pointsStage(warehouse, "events", EVENTS);
    await using _ = stage;
    clock.nowMs = recentSlot(0);
    const sold = (value: number) => eventRecord({ event: "sold", value, source: "shop", timeUs: clock.nowMs * 1000 });
    await stage.append(sold(1), sold(2), eventRecord());
    clock.nowMs = recentSlot(1);
    await stage.append(eventRecord());
    stage.start({ clock: slowClock });
    await stage.drained();
    await closed(warehouse, EVENTS, "events", recentSlot(1));
    await letReadersSee(warehouse, "events");
    const series = await readRollup(warehouse, "events");
    expect(series).toMatchObject([{ metric: "sold", origin: "event", count: 2, sum: 3 }]);
    await remove(stage, "events_raw", "log_offset = 1");
    await warehouse.command(
      "INSERT INTO points_5m SELECT * REPLACE (1 AS count, 1 AS sum, version + 1 AS version) FROM points_5m FINAL WHERE log_epoch = 'events'",
    );
    expect(findingsText([await verify(stage, EVENTS)])).toContain("missing: partition 0, offset 1\n");
    expect(isSound(await verify(stage, EVENTS, true))).toBe(true);
    expect(await readRollup(warehouse, "events")).toEqual(series);
  });
});
