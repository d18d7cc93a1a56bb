// Records that can never be rows: ClickHouse refuses them, or nobody can read them. They cost themselves and nobody else.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, poisonRecord, type RunningConsumer, withInsert } from "../kit/consumer.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("refused");
  warehouse = clickhouse.warehouse("refused");
  await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT refused CHECK event != 'refused'");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const events = (count: number) =>
  Array.from({ length: count }, (_, n) => eventRecord({ propertiesJson: `{"n":${n}}` }));

function select(table: string, epoch: string): Promise<Record<string, unknown>[]> {
  return warehouse.query(`SELECT * FROM ${table} WHERE log_epoch = {epoch:String} ORDER BY log_offset`, {
    params: { epoch },
  });
}

function metricOf({ registry }: RunningConsumer, name: string): Promise<string> {
  return registry.getSingleMetricAsString(name);
}

describe("a row that ClickHouse refuses", () => {
  it("among a thousand is found and dead-lettered with its bytes and the reason; the others are rows", async () => {
    await using stage = await createStage(warehouse, { epoch: "one" });
    const refused = eventRecord({ event: "refused", distinctId: "d", propertiesJson: '{"a":1}' });
    await stage.append(...events(700), refused, ...events(299));
    let inserts = 0;
    const consumer = stage.start({
      warehouse: withInsert(async (_, insert) => {
        inserts++;
        await insert();
      }),
    });
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 999, deadLetters: 1 }));
    const letters = await select("dead_letters", "one");
    expect(letters).toHaveLength(1);
    expect(letters[0]).toMatchObject({
      log_topic: EVENTS_TOPIC,
      log_partition: 0,
      log_offset: "700",
      error_class: "clickhouse_469",
      value_base64: Buffer.from(refused.value).toString("base64"),
      key_base64: Buffer.from("d").toString("base64"),
    });
    expect(letters[0]?.error).toContain("refused");
    expect(await select("log_outcomes", "one")).toMatchObject([
      { log_offset: "700", outcome: "dead_letter", detail: "clickhouse_469" },
    ]);
    // Halving finds one of a thousand in ten refusals, each beside one half that is taken.
    expect(inserts).toBeLessThan(26);
    expect(await metricOf(consumer, "millrace_rows_stored_total")).toContain("millrace_rows_stored_total 999");
    expect(await metricOf(consumer, "millrace_outcomes_total")).toContain('{outcome="dead_letter"} 1');
  });

  it.each([
    ["first and last", (n: number) => n === 0 || n === 63],
    ["fifteen in a row", (n: number) => n >= 20 && n < 35],
    ["the last fifteen", (n: number) => n >= 49],
    ["every second", (n: number) => n % 2 === 1],
  ])("%s of 64", async (name, isRefused) => {
    await using stage = await createStage(warehouse, { epoch: `some ${name}` });
    const numbers = Array.from({ length: 64 }, (_, n) => n);
    await stage.append(...numbers.map((n) => eventRecord(isRefused(n) ? { event: "refused" } : {})));
    stage.start();
    await stage.drained();
    const deadLetters = numbers.filter(isRefused).length;
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 64 - deadLetters, deadLetters }));
  });
});

it("a repetition of a refused record is judged by itself", async () => {
  await using stage = await createStage(warehouse, { epoch: "repeated" });
  const id = "00000000-0000-4000-8000-000000000001";
  await stage.append(
    ...events(5),
    eventRecord({ id, event: "refused" }),
    ...events(5),
    eventRecord({ id }),
    ...events(5),
  );
  stage.start();
  await stage.drained();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 16, deadLetters: 1 }));
});

describe("records that can never be rows, of three kinds, among ten thousand", () => {
  it("cost themselves only", async () => {
    await using stage = await createStage(warehouse, { epoch: "three kinds" });
    const bad = new Map([
      [17, poisonRecord],
      [4_321, eventRecord({ event: "refused" })],
      [4_322, eventRecord({ propertiesJson: '{"a":1}],["x' })],
      [9_990, eventRecord({ event: "refused" })],
      [10_002, poisonRecord],
    ]);
    const all = Array.from({ length: 10_003 }, (_, n) => bad.get(n) ?? eventRecord());
    const good = all.length - bad.size;
    for (let at = 0; at < all.length; at += 1000) await stage.append(...all.slice(at, at + 1000));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: good, deadLetters: bad.size }));
    const letters = await select("dead_letters", "three kinds");
    expect(letters.map(({ log_offset, error_class }) => [Number(log_offset), error_class])).toEqual([
      [17, "undecodable"],
      [4_321, "clickhouse_469"],
      [4_322, "undecodable"],
      [9_990, "clickhouse_469"],
      [10_002, "undecodable"],
    ]);
    expect(letters.map(({ value_base64 }) => value_base64)).toEqual(
      [...bad.values()].map(({ value }) => Buffer.from(value).toString("base64")),
    );
  });
});

describe("bytes that are no record", () => {
  it("cost only themselves", async () => {
    await using stage = await createStage(warehouse, { epoch: "poison" });
    const empty = { key: Buffer.from(""), value: Buffer.from("") };
    await stage.append(...events(5), poisonRecord, ...events(5), empty);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 10, deadLetters: 2 }));
    expect(await select("dead_letters", "poison")).toMatchObject([
      { log_offset: "5", error_class: "undecodable", value_base64: Buffer.from(poisonRecord.value).toString("base64") },
      { log_offset: "11", error_class: "undecodable", value_base64: "", key_base64: "" },
    ]);
  });

  it("make a batch of nothing else, however large", async () => {
    await using stage = await createStage(warehouse, { epoch: "poison-only" });
    // 8 MB of bytes are 10.7 MB of Base64: more than one insert may have.
    const value = Buffer.alloc(100_000, 0xff);
    await stage.append(...Array.from({ length: 80 }, () => ({ key: Buffer.from("k"), value })));
    const sizes: number[] = [];
    stage.start({
      warehouse: withInsert(async ({ rows }, insert) => {
        sizes.push(rows.length);
        await insert();
      }),
    });
    await stage.drained();
    expect(Math.max(...sizes)).toBeLessThanOrEqual(8_000_000);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 0, deadLetters: 80 }));
  });

  it.each([
    ["a time beyond any calendar", { timeUs: Number.MAX_SAFE_INTEGER }],
    ["a receive time beyond any calendar", { receivedUs: Number.MAX_SAFE_INTEGER }],
    ["a value that is no number", { value: Number.NaN }],
    ["an infinite value", { value: Number.POSITIVE_INFINITY }],
    ["properties that end early", { propertiesJson: '{"a":1}],["x' }],
    ["properties that are an array", { propertiesJson: "[1]" }],
    ["no properties", { propertiesJson: "" }],
  ])("or hold %s, never stop the partition", async (name, fields) => {
    await using stage = await createStage(warehouse, { epoch: `odd ${name}` });
    await stage.append(...events(3), eventRecord(fields), ...events(3));
    stage.start();
    await stage.drained();
    const { rows, deadLetters, ...faults } = await stage.audit();
    expect(rows + deadLetters).toBe(7);
    expect(rows).toBeGreaterThanOrEqual(6);
    expect(faults).toMatchObject({ lost: [], doubled: [], lostLetters: [] });
  });
});

describe("an insert that touches more partitions than one may", () => {
  it("is split until each part is taken", async () => {
    let month = 0;
    // Each append a month after the one before: 250 months, where one insert may touch 100.
    await using stage = await createStage(warehouse, { epoch: "months", now: () => Date.UTC(2000, month++, 15) });
    await stage.append(...events(250));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 250 }));
  });

  it("because of its outcomes is split without storing its rows twice", async () => {
    let month = 0;
    await using stage = await createStage(warehouse, {
      epoch: "poison-months",
      now: () => Date.UTC(2000, month++, 15),
    });
    await stage.append(...events(20), ...Array.from({ length: 150 }, () => poisonRecord), ...events(20));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 40, deadLetters: 150 }));
  });
});
