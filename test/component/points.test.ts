// Points from the log to their table, on a scripted log and a real ClickHouse.
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { startConsumer } from "../../services/consumer/app.ts";
import { EVENTS, POINTS } from "../../services/consumer/kinds.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { BATCHES, eventRecord, idOf, poisonRecord, withInsert } from "../kit/consumer.ts";
import { pointRecord, pointsStage, slotAt, slowClock } from "../kit/points.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("points");
  warehouse = clickhouse.warehouse("points");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

describe("points", () => {
  it("fill every column of their table, each offset once", async () => {
    const { stage } = await pointsStage(warehouse, "columns");
    await using _ = stage;
    const times = { timeUs: 1_780_000_000_000_001, receivedUs: 1_790_000_000_000_002 };
    const tags = { zone: "b", host: 'h "1"' };
    await stage.append(pointRecord({ id: idOf(7), metric: "ram", value: -2.5, tags, relayId: "r1", ...times }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1 }));
    const [row] = await warehouse.query("SELECT *, origin FROM points WHERE log_epoch = 'columns'");
    expect(row).toMatchObject({
      uuid: idOf(7),
      metric: "ram",
      value: -2.5,
      tags: { host: 'h "1"', zone: "b" },
      time: "2026-05-28 20:26:40.000001",
      inserted_at: "2026-09-21 14:13:20.000002",
      origin: "relay",
      relay_id: "r1",
      collector: "c",
      log_topic: "millrace.points",
      log_time: "2026-09-21 14:15:00.000",
    });
  });

  it("sent again under their ids are duplicates, in the same batch, later and after a restart", async () => {
    const { stage } = await pointsStage(warehouse, "retries");
    await using _ = stage;
    await stage.append(...[1, 2, 1].map((n) => pointRecord({ id: idOf(n) })));
    const first = stage.start({ config: { batchSize: 3 } });
    await stage.drained();
    await stage.append(pointRecord({ id: idOf(2) }));
    await stage.drained();
    await first[Symbol.asyncDispose]();
    await stage.append(pointRecord({ id: idOf(1) }), pointRecord({ id: idOf(3) }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 3, duplicates: 3 }));
  });

  it("of two days in one insert whose answer is lost are stored once", async () => {
    const { stage, clock } = await pointsStage(warehouse, "midnight");
    await using _ = stage;
    const midnight = Math.ceil(slotAt(0) / 86_400_000) * 86_400_000;
    clock.nowMs = midnight - 1;
    await stage.append(pointRecord());
    clock.nowMs = midnight;
    await stage.append(pointRecord());
    let isLost = false;
    const losing = withInsert(async ({ table }, insert) => {
      await insert();
      if (table !== "points" || isLost) return;
      isLost = true;
      throw new WarehouseError("the socket was closed", "transient");
    });
    stage.start({ warehouse: losing, clock: slowClock });
    await stage.drained();
    expect(isLost).toBe(true);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2 }));
  });

  it("that are not finite, or are no points, are dead letters and never rows", async () => {
    const { stage } = await pointsStage(warehouse, "junk");
    await using _ = stage;
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number("1e999")];
    await stage.append(pointRecord(), ...values.map((value) => pointRecord({ value })), poisonRecord, pointRecord());
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2, deadLetters: 5 }));
    const rows = await warehouse.query("SELECT value FROM points WHERE log_epoch = 'junk' AND NOT isFinite(value)");
    expect(rows).toEqual([]);
  });
});

it("one consumer lands events and points side by side, and tells their metrics apart", async () => {
  const log = await createSqliteLog({ file: ":memory:" });
  const registry = new Registry();
  const topics = [EVENTS.topic, POINTS.topic];
  await log.createTopics(topics.map((topic) => ({ topic, partitions: 1 })));
  await log.append(EVENTS.topic, [eventRecord(), eventRecord()]);
  await log.append(POINTS.topic, [pointRecord(), pointRecord(), pointRecord()]);
  const logger = pino({ level: "silent" });
  const consumer = startConsumer(BATCHES, { kinds: [EVENTS, POINTS], log, warehouse, registry, logger });
  const epoch = await log.epoch();
  for (const { topic, group, table } of [EVENTS, POINTS]) {
    const end = topic === EVENTS.topic ? 2 : 3;
    await until(async () => (await log.committed(topic, group)).get(0)?.offset === end, `${topic} is committed`);
    const sql = `SELECT toUInt32(count()) AS n FROM ${table.name} WHERE log_epoch = {epoch:String}`;
    expect(await warehouse.query(sql, { params: { epoch } })).toEqual([{ n: end }]);
  }
  const lags = async () => (await registry.getSingleMetric("millrace_lag_records")?.get())?.values ?? [];
  await until(async () => (await lags()).length === 2, "both partitions have a lag");
  expect((await lags()).map(({ labels }) => labels.topic).sort()).toEqual(topics.sort());
  await consumer[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
});
