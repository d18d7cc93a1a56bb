// Erasing a person takes the values of its events out of the roll-up, and the certificate looks there as well.
import { afterAll, beforeAll, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { certify, isClean } from "#lib/identity/erasure/certificate.ts";
import { beginErasure, type EraseDeps, finishErasure } from "#lib/identity/erasure/erase.ts";
import { SLOT_MS, slotOf } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, type Stage } from "../kit/consumer.ts";
import { allDiffering, closed, letReadersSee, pointsStage, readRollup, slowClock } from "../kit/points.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("erased");
  warehouse = clickhouse.warehouse("erased");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const begun = slotOf(Date.now()) - 6 * SLOT_MS;

const paid = (distinctId: string, value: number, event = "paid") =>
  eventRecord({ event, distinctId, value, timeUs: begun * 1000 });

/** Two closed slots: in the first Ann and Bob paid and only Ann refunded, in the second Bob paid. */
async function twoSlots(epoch: string): Promise<Stage> {
  const { stage, clock } = await pointsStage(warehouse, epoch, EVENTS);
  clock.nowMs = begun;
  await stage.append(paid("ann", 100), paid("bob", 1), paid("ann", 7, "refunded"));
  clock.nowMs = begun + SLOT_MS;
  await stage.append(paid("bob", 2));
  clock.nowMs = begun + 2 * SLOT_MS;
  await stage.append(eventRecord({ distinctId: "carl" }));
  stage.start({ clock: slowClock });
  await stage.drained();
  await closed(warehouse, EVENTS, epoch, begun + 2 * SLOT_MS);
  await letReadersSee(warehouse, epoch);
  return stage;
}

function depsOf(stage: Stage): EraseDeps {
  const log = { ...stage.log, epoch: async () => stage.epoch };
  const telling = { onStep: () => {}, onLook: () => {} };
  return { log, warehouse, topic: EVENTS_TOPIC, patienceMs: 20_000, nowMs: Date.now, ...telling };
}

it("takes a person's values out of the roll-up and leaves everybody else's", async () => {
  await using stage = await twoSlots("values");
  const before = await readRollup(warehouse, "values");
  expect(before).toMatchObject([
    { metric: "paid", count: 3, sum: 103, max: 100 },
    { metric: "refunded", count: 1 },
  ]);
  const deps = depsOf(stage);
  const certificate = await finishErasure(deps, await beginErasure(deps, personIdOf("ann")));
  expect(isClean(certificate)).toBe(true);
  expect(certificate.checks.map(({ what }) => what)).toContainEqual(expect.stringContaining("slots of the roll-up"));
  expect(await readRollup(warehouse, "values")).toMatchObject([{ metric: "paid", count: 2, sum: 3, max: 2 }]);
  expect(await allDiffering(warehouse, EVENTS, "values")).toEqual([]);
});

it("has no clean certificate while the roll-up still counts a value", async () => {
  await using stage = await twoSlots("left");
  const deps = depsOf(stage);
  const erasure = (await finishErasure(deps, await beginErasure(deps, personIdOf("ann")))).erasure;
  await warehouse.command(
    `INSERT INTO points_5m SELECT * REPLACE (count + 1 AS count, version + 1 AS version) FROM points_5m FINAL
     WHERE log_epoch = 'left' AND slot = toDateTime(${begun / 1000})`,
  );
  const certificate = await certify(deps.log, warehouse, erasure);
  expect(isClean(certificate)).toBe(false);
  expect(certificate.checks.filter(({ count }) => count > 0)).toMatchObject([
    { what: expect.stringContaining("slots of the roll-up"), count: 1 },
  ]);
  expect(isClean(await finishErasure(deps, { ...erasure, finishedAtMs: undefined }))).toBe(true);
});
