// Retention on a real ClickHouse: what expires goes, in all tables of a setting, and the audit does not miss it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { applyRetentions, keptSince, retentionSettings } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { auditLog, isClean, totalsOf } from "../../commands/verify/audit.ts";
import { backdate } from "../kit/backdate.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord } from "../kit/consumer.ts";
import { until } from "../kit/until.ts";

const DAY_MS = 86_400_000;
const TABLES = ["events_raw", "log_outcomes", "dead_letters"];

let clickhouse: TestClickHouse;
let directory: string;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  directory = await mkdtemp(join(tmpdir(), "millrace-retention-"));
});
afterAll(async () => {
  await clickhouse[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function createTables(database: string): Promise<Warehouse> {
  await clickhouse.migrate(database);
  return clickhouse.warehouse(database);
}

/** Applies the setting and resolves with what was logged. */
async function apply(warehouse: Warehouse, retentionMs: number | undefined): Promise<{ msg: string; table: string }[]> {
  const lines: { msg: string; table: string }[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const others = { pointsRetention: undefined, retention: undefined };
  await applyRetentions(warehouse, { eventsRetention: retentionMs, ...others }, logger);
  return lines;
}

async function ttls(warehouse: Warehouse, tables = TABLES): Promise<unknown[]> {
  const rows = await warehouse.query<{ ttl: string }>(
    `SELECT extract(engine_full, 'TTL (.*?) SETTINGS') AS ttl FROM system.tables
     WHERE database = currentDatabase() AND name IN {tables:Array(String)}`,
    { params: { tables } },
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

/** A log with so many records, all of them committed, the first `old` of which arrived so many days ago. */
async function startLog(records: number, old: number, daysAgo: number): Promise<OpenLog> {
  const file = join(directory, "log.sqlite");
  await using written = await createSqliteLog({ file });
  await written.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
  await written.append(
    EVENTS_TOPIC,
    Array.from({ length: records }, () => eventRecord()),
  );
  await written[Symbol.asyncDispose]();
  backdate(file, (offset) => (offset < old ? daysAgo * DAY_MS : 0));
  const log = await createSqliteLog({ file });
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
    const log = await startLog(30, 15, 100);
    try {
      const epoch = (await log.epoch()) ?? "";
      await store(warehouse, epoch, 0, 15, 100);
      await store(warehouse, epoch, 15, 30, 0);
      const audit = () => auditLog({ log, warehouse, kind: STORED_EVENTS });
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
      await log[Symbol.asyncDispose]();
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

const HOUR_MS = 3_600_000;

function parse(env: Record<string, string>) {
  const outcome = parseConfig(z.object(retentionSettings), { argv: [], env, command: "test", summary: "" });
  return outcome.kind === "config" ? outcome.config : outcome.text;
}

describe("POINTS_RETENTION and RETENTION", () => {
  it("are eight hours and a week unless they are set, weeks where there is no unit, and for ever when off", () => {
    const unset = { eventsRetention: undefined, pointsRetention: 8 * HOUR_MS, retention: 7 * DAY_MS };
    expect(parse({})).toEqual(unset);
    expect(parse({ POINTS_RETENTION: "2d", RETENTION: "3" })).toEqual({
      ...unset,
      pointsRetention: 2 * DAY_MS,
      retention: 21 * DAY_MS,
    });
    expect(parse({ POINTS_RETENTION: "OFF", RETENTION: "off" })).toMatchObject({
      pointsRetention: undefined,
      retention: undefined,
    });
    expect(parse({ POINTS_RETENTION: "1h" })).toContain("at least 3h, or off");
    expect(parse({ RETENTION: "0" })).toContain("at least 1d, or off");
  });

  it("are applied, changed and taken back, each on its own table", async () => {
    const warehouse = await createTables("points_changing");
    const logger = pino({ level: "silent" });
    const settings = { eventsRetention: undefined, pointsRetention: 8 * HOUR_MS, retention: 7 * DAY_MS };
    const ttlOf = async (name: string) => (await ttls(warehouse, [name]))[0];
    await applyRetentions(warehouse, settings, logger);
    expect(await ttlOf("points")).toBe("stored_at + toIntervalSecond(28800)");
    expect(await ttlOf("points_5m")).toBe("slot + toIntervalSecond(604800)");
    const [kept = 0] = [await keptSince(warehouse, ["points", "points_5m"])];
    expect(Math.abs(kept - (Date.now() - 7 * HOUR_MS))).toBeLessThan(60_000);
    await applyRetentions(warehouse, { ...settings, pointsRetention: DAY_MS, retention: undefined }, logger);
    expect(await ttlOf("points")).toBe("stored_at + toIntervalSecond(86400)");
    expect(await ttlOf("points_5m")).toBe("");
    await applyRetentions(warehouse, { ...settings, pointsRetention: undefined, retention: undefined }, logger);
    expect(await ttlOf("points")).toBe("");
    expect(await keptSince(warehouse, ["points", "points_5m"])).toBeUndefined();
    expect(await ttls(warehouse)).toEqual(["", "", ""]);
  });

  it("take what expired, counted from storing and from the slot, and leave what only arrived long ago", async () => {
    const warehouse = await createTables("points_expiring");
    const columns = "uuid, metric, log_epoch, log_topic, log_partition, log_offset, log_time, stored_at";
    const point = (offset: number, arrivedHours: number, storedHours: number) =>
      warehouse.command(
        `INSERT INTO points (${columns}) SELECT generateUUIDv4(), 'cpu', 'e', 't', 0, ${offset},
           now64(3) - toIntervalHour(${arrivedHours}), now() - toIntervalHour(${storedHours})`,
      );
    await point(0, 48, 48);
    // Stored after a long absence: it has to reach the roll-up first.
    await point(1, 72, 0);
    await point(2, 0, 0);
    for (const days of [10, 3]) {
      await warehouse.command(
        `INSERT INTO points_5m (metric, log_epoch, slot, version) SELECT 'cpu', 'e', now() - toIntervalDay(${days}), 1`,
      );
    }
    const settings = { eventsRetention: undefined, pointsRetention: 8 * HOUR_MS, retention: 7 * DAY_MS };
    await applyRetentions(warehouse, settings, pino({ level: "silent" }));
    const offsets = async () => await warehouse.query("SELECT log_offset AS o FROM points ORDER BY o");
    await until(async () => (await offsets()).length === 2, "the expired point is gone");
    expect(await offsets()).toEqual([{ o: "1" }, { o: "2" }]);
    const slots = () => warehouse.query("SELECT dateDiff('day', slot, now()) AS days FROM points_5m");
    await until(async () => (await slots()).length === 1, "the expired slot is gone");
    expect(await slots()).toEqual([{ days: "3" }]);
  });
});
