// Faults of ClickHouse and its tables that are no record's fault: nothing is dead-lettered, nothing is hammered, the
// consumer says what is wrong and goes on by itself when it is repaired.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import {
  createMortal,
  createStage,
  eventRecord,
  idOf,
  poisonRecord,
  type RunningConsumer,
  withInsert,
} from "../kit/consumer.ts";
import { atMost, patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** A database of its own, whose tables may be spoilt. */
async function freshTables(database: string): Promise<Warehouse> {
  await clickhouse.migrate(database);
  return clickhouse.warehouse(database);
}

const events = (count: number) => Array.from({ length: count }, (_, n) => eventRecord({ value: n }));

async function unreadiness(consumer: RunningConsumer, name: "clickhouse" | "partitions"): Promise<string | undefined> {
  const check = consumer.checks.find((each) => each.name === name);
  const error = await check?.check(AbortSignal.timeout(patience(1000))).catch((reason: Error) => reason);
  return error?.message;
}

async function countRows(warehouse: Warehouse, table: string): Promise<number> {
  const [row] = await warehouse.query<{ n: string }>(`SELECT count() AS n FROM ${table}`);
  return Number(row?.n);
}

describe("while ClickHouse is away", () => {
  it("six partitions send next to nothing, and all go on within 5 s of its return", async () => {
    const warehouse = await freshTables("away");
    await using stage = await createStage(warehouse, { epoch: "away", partitions: 6 });
    let isAway = false;
    const failing = async <T>(call: () => Promise<T>): Promise<T> => {
      if (isAway) throw new WarehouseError("ClickHouse call failed (ECONNREFUSED)", "transient");
      return call();
    };
    const sent = { inserts: 0, pings: 0 };
    const consumer = stage.start({
      warehouse: (inner) => ({
        ...inner,
        query: (sql, options) => failing(() => inner.query(sql, options)),
        insert(options) {
          sent.inserts++;
          return failing(() => inner.insert(options));
        },
        ping(signal) {
          sent.pings++;
          return failing(() => inner.ping(signal));
        },
      }),
    });
    const append = async () => {
      for (let n = 0; n < 60; n++) await stage.append(eventRecord({ key: `key-${n}` }));
    };
    await append();
    await stage.drained();
    isAway = true;
    sent.inserts = 0;
    await append();
    await until(async () => (await unreadiness(consumer, "clickhouse"))?.includes("since") ?? false, "not ready");
    sent.pings = 0;
    await pause(4000);
    // A first try of each partition, a second of some of them before the breaker opens; then probes only.
    expect(sent.inserts).toBeLessThanOrEqual(12);
    expect(sent.pings).toBeLessThanOrEqual(6);
    expect(await stage.metric(consumer, "millrace_clickhouse_breaker_opened_total")).toBe(1);
    const returned = performance.now();
    isAway = false;
    await stage.drained();
    expect(performance.now() - returned).toBeLessThan(atMost(5000));
    expect(await unreadiness(consumer, "clickhouse")).toBeUndefined();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 120 }));
  });
});

describe.concurrent("tables that are not as they should be", () => {
  it.each([
    {
      fault: "events_raw is missing",
      spoil: "RENAME TABLE events_raw TO hidden",
      repair: "RENAME TABLE hidden TO events_raw",
      remedy: "run `millrace migrate`",
    },
    {
      fault: "a column is missing",
      spoil: "ALTER TABLE events_raw RENAME COLUMN ip TO ip2",
      repair: "ALTER TABLE events_raw RENAME COLUMN ip2 TO ip",
      remedy: "run `millrace migrate`",
    },
    {
      fault: "dead_letters is missing",
      spoil: "RENAME TABLE dead_letters TO hidden",
      repair: "RENAME TABLE hidden TO dead_letters",
      remedy: "run `millrace migrate`",
    },
    {
      // The table has the rows then, and the insert fails all the same.
      fault: "a materialized view fails",
      spoil: `CREATE MATERIALIZED VIEW broken ENGINE = MergeTree ORDER BY n
        AS SELECT toUInt32(concat('x', distinct_id)) AS n FROM events_raw`,
      repair: "DROP TABLE broken",
      remedy: "repair or drop the materialized view",
    },
  ])("because $fault make the consumer wait, not ready, with the remedy", async ({ fault, spoil, repair, remedy }) => {
    const warehouse = await freshTables(fault.replaceAll(" ", "_"));
    await using stage = await createStage(warehouse, { epoch: fault });
    const consumer = stage.start();
    await stage.append(...events(5));
    await stage.drained();
    await warehouse.command(spoil);
    await stage.append(...events(50), poisonRecord, ...events(50));
    await until(async () => (await unreadiness(consumer, "clickhouse")) !== undefined, "the consumer is not ready");
    expect(await unreadiness(consumer, "clickhouse")).toContain(remedy);
    const loud = consumer.warnings.filter(({ level }) => level === 50);
    expect(loud.length).toBeGreaterThan(0);
    await warehouse.command(repair);
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 105, deadLetters: 1 }));
    expect(await unreadiness(consumer, "clickhouse")).toBeUndefined();
  });
});

describe.concurrent("a table that refuses every row", () => {
  it.each([
    ["a constraint", "ALTER TABLE events_raw ADD CONSTRAINT no CHECK 0", "ALTER TABLE events_raw DROP CONSTRAINT no"],
    [
      "a column's type",
      "ALTER TABLE events_raw MODIFY COLUMN user_agent UInt8",
      "ALTER TABLE events_raw MODIFY COLUMN user_agent String",
    ],
  ])("for %s dead-letters nothing, says so, and takes all of them after the repair", async (what, spoil, repair) => {
    const name = what.replaceAll(/\W/g, "_");
    const warehouse = await freshTables(`refuses_${name}`);
    await using stage = await createStage(warehouse, { epoch: name });
    await warehouse.command(spoil);
    await stage.append(...Array.from({ length: 500 }, () => eventRecord({ userAgent: "curl/8" })));
    let inserts = 0;
    const consumer = stage.start({
      warehouse: withInsert((_, insert) => {
        inserts++;
        return insert();
      }),
    });
    await until(async () => (await unreadiness(consumer, "partitions")) !== undefined, "the partition waits");
    const before = inserts;
    expect(await unreadiness(consumer, "partitions")).toMatch(
      /from offset 0 on ClickHouse refuses 16 records in a row .*run `millrace migrate`, or take back/,
    );
    expect(await stage.metric(consumer, "millrace_partition_halted")).toBe(1);
    await until(() => inserts > before + 16, "it has tried again");
    expect(await countRows(warehouse, "dead_letters")).toBe(0);
    expect(await countRows(warehouse, "log_outcomes")).toBe(0);
    await warehouse.command(repair);
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 500 }));
    expect(await unreadiness(consumer, "partitions")).toBeUndefined();
    expect(await stage.metric(consumer, "millrace_partition_halted")).toBe(0);
  });

  it("and gets one record at a time loses fewer than 16 to dead_letters, over restarts too", async () => {
    const warehouse = await freshTables("refuses_trickle");
    await using stage = await createStage(warehouse, { epoch: "trickle" });
    let consumer = stage.start();
    await stage.append(...events(3));
    await stage.drained();
    await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT no CHECK 0");
    for (let n = 0; n < 15; n++) {
      await stage.append(...events(1));
      await stage.drained();
      if (n !== 8) continue;
      await consumer[Symbol.asyncDispose]();
      consumer = stage.start();
    }
    await stage.append(...events(1));
    await until(async () => (await unreadiness(consumer, "partitions")) !== undefined, "the partition waits");
    await consumer[Symbol.asyncDispose]();
    expect(await unreadiness(consumer, "partitions"), "of a consumer that has let it go").toBeUndefined();
    consumer = stage.start();
    await until(async () => (await unreadiness(consumer, "partitions")) !== undefined, "the partition waits again");
    expect(await countRows(warehouse, "dead_letters")).toBe(15);
    await warehouse.command("ALTER TABLE events_raw DROP CONSTRAINT no");
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 4, deadLetters: 15 }));
  });

  it("and is repaired in the middle of a bisection has no dead letters either, and repetitions stay duplicates", async () => {
    const warehouse = await freshTables("refuses_until");
    await using stage = await createStage(warehouse, { epoch: "until" });
    await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT no CHECK 0");
    await stage.append(...Array.from({ length: 64 }, (_, n) => eventRecord({ id: idOf(n % 32) })));
    let inserts = 0;
    stage.start({
      warehouse: withInsert(async (_, insert) => {
        // 64, 32, ..., 1 at offset 0, and then some of the records after it.
        if (inserts++ === 12) await warehouse.command("ALTER TABLE events_raw DROP CONSTRAINT no");
        await insert();
      }),
    });
    await stage.drained();
    expect(inserts).toBeGreaterThan(13);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 32, duplicates: 32 }));
  });

  it("while a range is in flight waits as well: the next owner dead-letters none of it", async () => {
    const warehouse = await freshTables("refuses_in_flight");
    await using stage = await createStage(warehouse, { epoch: "in-flight" });
    await stage.append(...events(200));
    const mortal = createMortal(Number.POSITIVE_INFINITY);
    stage.start({
      ...mortal.options,
      warehouse: withInsert(async () => {
        mortal.kill();
        await new Promise(() => {});
      }),
    });
    await mortal.died;
    await stage.log.killConsumer(0);
    await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT no CHECK 0");
    const second = stage.start();
    await until(async () => (await unreadiness(second, "partitions")) !== undefined, "the partition waits");
    expect(await countRows(warehouse, "dead_letters")).toBe(0);
    await warehouse.command("ALTER TABLE events_raw DROP CONSTRAINT no");
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 200 }));
  });

  it("of dead letters or outcomes makes the partition wait, with its rows stored once", async () => {
    const warehouse = await freshTables("refuses_outcomes");
    await using stage = await createStage(warehouse, { epoch: "outcomes" });
    await warehouse.command("ALTER TABLE dead_letters ADD CONSTRAINT no CHECK 0");
    await stage.append(...events(20), poisonRecord, ...events(20), poisonRecord);
    const consumer = stage.start();
    await until(async () => (await unreadiness(consumer, "partitions")) !== undefined, "the partition waits");
    expect(await unreadiness(consumer, "partitions")).toContain("refuses dead letters or outcomes");
    await warehouse.command("ALTER TABLE dead_letters DROP CONSTRAINT no");
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 40, deadLetters: 2 }));
  });
});

describe.concurrent("back-pressure", () => {
  it("of a real ClickHouse with too many parts waits, stays ready, and dead-letters nothing", async () => {
    const warehouse = await freshTables("parts");
    await using stage = await createStage(warehouse, { epoch: "parts" });
    const refusals: (number | undefined)[] = [];
    const consumer = stage.start({
      warehouse: withInsert(async (_, insert) => {
        await insert().catch((error: unknown) => {
          refusals.push(error instanceof WarehouseError ? error.code : undefined);
          throw error;
        });
      }),
    });
    await stage.append(...events(5));
    await stage.drained();
    await warehouse.command(
      "ALTER TABLE events_raw MODIFY SETTING parts_to_delay_insert = 0, parts_to_throw_insert = 1",
    );
    await stage.append(...events(50), poisonRecord);
    await until(() => refusals.length >= 4, "four inserts are refused");
    expect(new Set(refusals)).toEqual(new Set([252]));
    expect(await unreadiness(consumer, "clickhouse")).toBeUndefined();
    expect(await unreadiness(consumer, "partitions")).toBeUndefined();
    expect(await countRows(warehouse, "dead_letters")).toBe(0);
    await warehouse.command("ALTER TABLE events_raw RESET SETTING parts_to_delay_insert, parts_to_throw_insert");
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 55, deadLetters: 1 }));
  });

  it("of any kind, in every insert of a bisection, never makes a dead letter", async () => {
    const warehouse = await freshTables("busy");
    await using stage = await createStage(warehouse, { epoch: "busy" });
    await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT refused CHECK event != 'refused'");
    await stage.append(...events(20), eventRecord({ event: "refused" }), ...events(20));
    const busy = [252, 241, 202, 439, 159, 209, 210, 243, 242, 164, 999, undefined].map(
      (code) => new WarehouseError("ClickHouse refused the insert", "transient", code),
    );
    let inserts = 0;
    stage.start({
      // Every second call is refused, each time for another reason.
      warehouse: withInsert(async (_, insert) => {
        if (inserts++ % 2 === 0) throw busy[(inserts >> 1) % busy.length] as WarehouseError;
        await insert();
      }),
    });
    await stage.drained();
    expect(inserts).toBeGreaterThan(busy.length * 2);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 40, deadLetters: 1 }));
    const letters = await warehouse.query<{ error_class: string }>("SELECT error_class FROM dead_letters");
    expect(letters).toEqual([{ error_class: "clickhouse_469" }]);
  });
});
