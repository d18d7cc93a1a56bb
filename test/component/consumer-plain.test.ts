import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { auditStored, exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf, poisonRecord, withInsert } from "../kit/consumer.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("plain");
  warehouse = clickhouse.warehouse("plain");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

function rowsOf(epoch: string, columns: string): Promise<Record<string, unknown>[]> {
  return warehouse.query(
    `SELECT ${columns} FROM events_raw WHERE log_epoch = {epoch:String} ORDER BY log_partition, log_offset`,
    { params: { epoch } },
  );
}

describe("the plain path", () => {
  it("makes N records of 4 partitions N rows, each offset once", async () => {
    await using stage = await createStage(warehouse, { partitions: 4, epoch: "plain-4" });
    await stage.append(...Array.from({ length: 2000 }, (_, n) => eventRecord({ distinctId: `d${n % 40}` })));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2000 }));
    const partitions = await warehouse.query(
      "SELECT DISTINCT log_partition FROM events_raw WHERE log_epoch = 'plain-4'",
    );
    expect(partitions).toHaveLength(4);
  });

  it("fills every column from the record, and keeps the properties' text as it was", async () => {
    await using stage = await createStage(warehouse, { epoch: "columns", now: () => 1_790_000_000_123 });
    const texts = {
      apiKey: "key",
      event: 'a "quoted"\n event',
      distinctId: "user_123",
      sessionId: "s1",
      windowId: "w1",
      elementsChain: "button:a",
      ip: "10.0.0.1",
      userAgent: "curl/8 é 😀",
      currentUrl: "https://example.org/?a=b&c=%20",
      host: "example.org",
      source: "web",
      originalTime: "1969-01-01T00:00:00Z",
      anonDistinctId: "anon",
    };
    const propertiesJson = '{ "b":1.50,"a":[1,{"x":"}]\\""}], "é":null ,"n":12345678901234567890}';
    const times = { timeUs: 1_780_000_000_000_001, receivedUs: 1_790_000_000_000_002 };
    await stage.append(eventRecord({ ...texts, ...times, id: idOf(7), value: -1.5e-7, propertiesJson }));
    stage.start();
    await stage.drained();
    const [row] = await rowsOf("columns", "*");
    expect(row).toMatchObject({
      uuid: idOf(7),
      uuid_from_caller: true,
      api_key: texts.apiKey,
      event: texts.event,
      distinct_id: texts.distinctId,
      person_id_at_ingest: "c0486609-82cd-5d27-a86e-f354f09b7ee0",
      session_id: "s1",
      window_id: "w1",
      elements_chain: texts.elementsChain,
      timestamp: "2026-05-28 20:26:40.000001",
      inserted_at: "2026-09-21 14:13:20.000002",
      ip: texts.ip,
      user_agent: texts.userAgent,
      current_url: texts.currentUrl,
      host: texts.host,
      source: texts.source,
      value: -1.5e-7,
      original_timestamp: texts.originalTime,
      anon_distinct_id: texts.anonDistinctId,
      properties: propertiesJson,
      log_topic: EVENTS_TOPIC,
      log_partition: 0,
      log_offset: "0",
      log_time: "2026-09-21 14:13:20.123",
    });
  });

  it("stores an event without a value as one without, and numbers as they are", async () => {
    await using stage = await createStage(warehouse, { epoch: "values" });
    const values = [undefined, 0, -0, 1e308, 5e-324, 0.1];
    await stage.append(...values.map((value) => eventRecord({ value })));
    stage.start();
    await stage.drained();
    expect((await rowsOf("values", "value")).map(({ value }) => value)).toEqual([null, 0, 0, 1e308, 5e-324, 0.1]);
  });
});

describe("batches", () => {
  it.each([
    ["rows", { batchSize: 100 }, "{}", 250],
    // 300 characters of properties, the rest of the record and 320 for the row: about 100 records a batch.
    ["bytes", { batchBytes: 65_536 }, JSON.stringify({ text: "x".repeat(300) }), 250],
  ])("are cut by %s", async (name, config, propertiesJson, count) => {
    const epoch = `cut-${name}`;
    await using stage = await createStage(warehouse, { epoch });
    const tokens: number[] = [];
    await stage.append(...Array.from({ length: count }, () => eventRecord({ propertiesJson })));
    stage.start({
      config: { ...config, flushInterval: 5000 },
      warehouse: withInsert(async ({ table, rows }, insert) => {
        if (table === "events_raw") tokens.push(Buffer.from(rows).toString().trim().split("\n").length);
        await insert();
      }),
    });
    await until(() => tokens.length >= 2, "two full batches are sent before any is old");
    const [first, second] = tokens;
    expect(first).toBeGreaterThan(80);
    expect(first).toBeLessThanOrEqual(100);
    expect(second).toBe(first);
  });

  it("are cut by age: one lone record does not wait for others", async () => {
    await using stage = await createStage(warehouse, { epoch: "cut-age" });
    let inserts = 0;
    stage.start({
      config: { flushInterval: 200 },
      warehouse: withInsert(async ({ table }, insert) => {
        if (table === "events_raw") inserts++;
        await insert();
      }),
    });
    await stage.append(eventRecord());
    await stage.drained();
    await stage.append(eventRecord());
    await stage.drained();
    expect(inserts).toBe(2);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2 }));
  });

  it("whose rows are much longer than their records are sent in inserts of at most 8 MB", async () => {
    await using stage = await createStage(warehouse, { epoch: "escapes" });
    // A control character is 1 byte in the record and 6 in the row.
    const distinctId = "\u0001".repeat(1024);
    await stage.append(...Array.from({ length: 4000 }, () => eventRecord({ distinctId })));
    const bytes: number[] = [];
    stage.start({
      warehouse: withInsert(async ({ rows }, insert) => {
        bytes.push(rows.length);
        await insert();
      }),
    });
    await stage.drained();
    expect(Math.max(...bytes)).toBeLessThanOrEqual(8_000_000);
    expect(Math.max(...bytes)).toBeGreaterThan(4_000_000);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 4000 }));
  });

  it("are finished when the process is to stop", async () => {
    const stage = await createStage(warehouse, { epoch: "stop" });
    await stage.append(...Array.from({ length: 10 }, () => eventRecord()));
    const consumer = stage.start({ config: { flushInterval: 60_000 } });
    await until(() => stage.log.owners(EVENTS_TOPIC).size === 1, "the partition is assigned");
    await consumer[Symbol.asyncDispose]();
    const second = stage.start();
    await stage.drained();
    await second[Symbol.asyncDispose]();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 10 }));
  });
});

describe("the tests' audit", () => {
  it("finds one loss, one double and one id twice", async () => {
    await using stage = await createStage(warehouse, { epoch: "audit" });
    await stage.append(...Array.from({ length: 5 }, (_, n) => eventRecord({ id: idOf(n) })), poisonRecord);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 5, deadLetters: 1 }));
    const mutate = (sql: string) => warehouse.command(`${sql} SETTINGS mutations_sync = 2`);
    await mutate("ALTER TABLE events_raw DELETE WHERE log_epoch = 'audit' AND log_offset = 2");
    await mutate("ALTER TABLE dead_letters DELETE WHERE log_epoch = 'audit'");
    await warehouse.command(
      `INSERT INTO events_raw (uuid, uuid_from_caller, log_epoch, log_partition, log_offset)
       SELECT uuid, uuid_from_caller, log_epoch, log_partition, log_offset FROM events_raw
       WHERE log_epoch = 'audit' AND log_offset = 3`,
    );
    expect(await auditStored(warehouse, "audit", new Map([[0, 6]]))).toMatchObject({
      lost: ["0:2"],
      doubled: ["0:3"],
      doubledIds: [` ${idOf(3)}`],
      lostLetters: ["0:5"],
    });
    expect(await auditStored(warehouse, "audit", new Map([[0, 5]]))).toMatchObject({ foreign: ["0:5"] });
  });

  it("knows the id that a record was made with", () => {
    expect(formatUuid(decodeRecord(eventRecord({ id: idOf(9) }).value).id)).toBe(idOf(9));
  });
});
