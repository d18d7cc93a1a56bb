// EVENTS_RETENTION on a real ClickHouse: what expires goes, in all three tables, and the audit does not miss it.

import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { applyRetention } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { auditLog, isClean, totalsOf } from "../../services/verify/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../support/clickhouse.ts";
import { eventRecord, until } from "../support/consumer.ts";

const DAY_MS = 86_400_000;
const TABLES = ["events_raw", "log_outcomes", "dead_letters"];

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

async function createTables(database: string): Promise<Warehouse> {
  await clickhouse.migrate(database);
  return clickhouse.warehouse(database);
}

/** Applies the setting and resolves with what was logged. */
async function apply(warehouse: Warehouse, retentionMs: number | undefined): Promise<{ msg: string; table: string }[]> {
  const lines: { msg: string; table: string }[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  await applyRetention(warehouse, retentionMs, logger);
  return lines;
}

async function ttls(warehouse: Warehouse): Promise<unknown[]> {
  const rows = await warehouse.query<{ ttl: string }>(
    `SELECT extract(engine_full, 'TTL (.*?) SETTINGS') AS ttl FROM system.tables
     WHERE database = currentDatabase() AND name IN {tables:Array(String)}`,
    { params: { tables: TABLES } },
  );
  return rows.map(({ ttl }) => ttl);
}

async function mutations(warehouse: Warehouse): Promise<unknown> {
  return warehouse.query("SELECT mutation_id FROM system.mutations WHERE database = currentDatabase() ORDER BY ALL");
}

/** Rows of a table: how many, and how many of them are older than a day. */
async function countRows(warehouse: Warehouse, table: string): Promise<{ all: number; old: number }> {
  const [row] = await warehouse.query<{ all: string; old: string }>(
    `SELECT toString(count()) AS all, toString(countIf(log_time < now() - toIntervalDay(1))) AS old FROM ${table}`,
  );
  return { all: Number(row?.all), old: Number(row?.old) };
}

/** Every third offset of [from, to) is a dead letter, the others are rows; arrived so many days ago. */
async function store(warehouse: Warehouse, epoch: string, from: number, to: number, daysAgo: number): Promise<void> {
  const params = { epoch, topic: EVENTS_TOPIC, from, to, daysAgo };
  const place = "{epoch:String}, {topic:String}, 0, number, now64(3) - toIntervalDay({daysAgo:UInt32})";
  const source = "FROM numbers({from:UInt64}, {to:UInt64} - {from:UInt64})";
  const columns = "log_epoch, log_topic, log_partition, log_offset, log_time";
  for (const insert of [
    `events_raw (${columns}, uuid, event) SELECT ${place}, generateUUIDv4(), 'seen' ${source} WHERE number % 3 != 0`,
    `log_outcomes (${columns}, outcome) SELECT ${place}, 'dead_letter' ${source} WHERE number % 3 = 0`,
    `dead_letters (${columns}, error_class) SELECT ${place}, 'undecodable' ${source} WHERE number % 3 = 0`,
  ]) {
    await warehouse.command(`INSERT INTO ${insert}`, { params });
  }
}

/** A log with so many records, all of them committed. */
async function startLog(records: number): Promise<EventLog> {
  const log = await createSqliteLog({ file: ":memory:" });
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
  await log.append(
    EVENTS_TOPIC,
    Array.from({ length: records }, () => eventRecord()),
  );
  const done = new AbortController();
  await log.consume({
    topic: EVENTS_TOPIC,
    group: CONSUMER_GROUP,
    signal: done.signal,
    async onAssigned(assignment) {
      await assignment.commit({ offset: records, metadata: "" });
      done.abort();
    },
  });
  return log;
}

describe("EVENTS_RETENTION", () => {
  it("takes expired rows of all three tables away, and verify calls none of them lost", async () => {
    const warehouse = await createTables("expiring");
    const log = await startLog(30);
    try {
      const epoch = (await log.epoch()) ?? "";
      await store(warehouse, epoch, 0, 15, 100);
      await store(warehouse, epoch, 15, 30, 0);
      const audit = () => auditLog({ log, warehouse, topic: EVENTS_TOPIC, group: CONSUMER_GROUP });
      expect(totalsOf(await audit())).toMatchObject({ accounted: 30, missing: 0 });

      expect((await apply(warehouse, 90 * DAY_MS)).map(({ table }) => table)).toEqual(TABLES);
      for (const table of TABLES) {
        await until(async () => (await countRows(warehouse, table)).old === 0, `${table} has no expired rows`);
        expect((await countRows(warehouse, table)).all).toBe(table === "events_raw" ? 10 : 5);
      }
      const after = await audit();
      expect([isClean(after), after.partitions[0]?.from, after.partitions[0]?.to]).toEqual([true, 15, 30]);
      // What has not expired is claimed as before.
      await warehouse.command("ALTER TABLE events_raw DELETE WHERE log_offset = 20 SETTINGS mutations_sync = 2");
      expect(totalsOf(await audit())).toMatchObject({ accounted: 14, missing: 1 });
    } finally {
      await log.close();
    }
  });

  it("can be set again, changed and taken back", async () => {
    const warehouse = await createTables("changing");
    await store(warehouse, "e", 0, 30, 60);
    await apply(warehouse, 90 * DAY_MS);
    expect(await ttls(warehouse)).toEqual(TABLES.map(() => "toDateTime(log_time) + toIntervalSecond(7776000)"));
    const before = await mutations(warehouse);
    expect(await apply(warehouse, 90 * DAY_MS)).toEqual([]);
    expect(await mutations(warehouse)).toEqual(before);

    await apply(warehouse, 84 * DAY_MS);
    expect(await ttls(warehouse)).toEqual(TABLES.map(() => "toDateTime(log_time) + toIntervalSecond(7257600)"));
    expect(await apply(warehouse, undefined)).toHaveLength(3);
    expect(await ttls(warehouse)).toEqual(["", "", ""]);
    expect(await apply(warehouse, undefined)).toEqual([]);
    expect((await countRows(warehouse, "events_raw")).all).toBe(20);
  });

  it("leaves a TTL of another form alone until there is a setting", async () => {
    const warehouse = await createTables("by_hand");
    await warehouse.command("ALTER TABLE dead_letters MODIFY TTL toDateTime(log_time) + toIntervalWeek(1)");
    expect(await apply(warehouse, undefined)).toEqual([]);
    expect((await ttls(warehouse)).filter((ttl) => ttl !== "")).toEqual(["toDateTime(log_time) + toIntervalWeek(1)"]);
    expect(await apply(warehouse, 14 * DAY_MS)).toHaveLength(3);
    expect(new Set(await ttls(warehouse))).toEqual(new Set(["toDateTime(log_time) + toIntervalSecond(1209600)"]));
  });
});
