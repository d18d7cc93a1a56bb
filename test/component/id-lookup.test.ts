// Ids looked up among all rows: by the projection, whose cost is in proportion to the ids and not to the rows.
import { afterAll, beforeAll, expect, it } from "vitest";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { identityKey, storedRows } from "#lib/letters/stored-rows.ts";
import { createIdLookup, type IdLookup } from "#lib/warehouse/id-lookup.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

const TABLE = { name: "events_raw", apiKey: "api_key", hasIdProjection: true };
const ROWS = 200_000;
const GRANULES = Math.ceil(ROWS / 8192);

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let lookUp: IdLookup;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("ids");
  warehouse = clickhouse.warehouse("ids");
  lookUp = createIdLookup(warehouse, TABLE);
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const uuidOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;

async function store(epoch: string, from: number, rows: number): Promise<void> {
  await warehouse.command(
    `INSERT INTO events_raw (uuid, api_key, distinct_id, log_epoch, log_topic, log_partition, log_offset, log_time)
     SELECT toUUID(concat('00000000-0000-4000-8000-', leftPad(lower(hex(number)), 12, '0'))), 'key', toString(number % 1000),
       {epoch:String}, 'millrace.events', number % 300, number, now64(3) FROM numbers({from:UInt64}, {rows:UInt64})`,
    { params: { epoch, from, rows } },
  );
}

/** What ClickHouse would read for this question. */
async function planOf(uuids: readonly string[]): Promise<string> {
  let plan = "";
  const explaining: Warehouse = {
    ...warehouse,
    async query<Row>(sql: string, options: object): Promise<Row[]> {
      const lines = await warehouse.query<{ explain: string }>(`EXPLAIN indexes = 1 ${sql}`, options);
      plan = lines.map(({ explain }) => explain).join("\n");
      return [];
    },
  };
  await createIdLookup(explaining, TABLE)(uuids);
  return plan;
}

function granulesRead(plan: string): number {
  expect(plan).toContain("ReadFromMergeTree (by_id)");
  return Number(/Granules: (\d+)\/\d+\n\s+Search Algorithm/.exec(plan)?.[1]);
}

it("finds rows of every epoch and partition, and reads a granule for each id at most", async () => {
  await store("one", 0, ROWS);
  await warehouse.command("OPTIMIZE TABLE events_raw FINAL");
  const wanted = [3, 70_000, 199_999];
  const places = await lookUp([...wanted, ROWS + 1].map(uuidOf));
  expect(places.toSorted((a, b) => a.offset - b.offset)).toEqual(
    wanted.map((n) => ({ uuid: uuidOf(n), apiKey: "key", epoch: "one", partition: n % 300, offset: n })),
  );
  expect(granulesRead(await planOf(wanted.map(uuidOf)))).toBeLessThanOrEqual(wanted.length);
  expect(GRANULES).toBeGreaterThan(8 * wanted.length);
});

it("finds a thousand ids by one question", async () => {
  const ids = Array.from({ length: 1000 }, (_, n) => n * 200);
  const places = await lookUp(ids.map(uuidOf));
  expect(places.map(({ offset }) => offset).sort((a, b) => a - b)).toEqual(ids);
});

it("is how letters that are rows already are found, in whatever topic and however many", async () => {
  const asked: string[] = [];
  const listening: Warehouse = {
    ...warehouse,
    query<Row>(sql: string, options?: object) {
      asked.push(sql);
      return warehouse.query<Row>(sql, options);
    },
  };
  const ids = Array.from({ length: 1000 }, (_, n) => n * 200).map(uuidOf);
  const letters = ids.map((id) => ({ topic: EVENTS_TOPIC, id, apiKey: "key" }));
  const foreign = { topic: EVENTS_TOPIC, id: uuidOf(1), apiKey: "another" };
  const rows = await storedRows(listening, [...letters, foreign, { topic: POINTS_TOPIC, id: uuidOf(2), apiKey: "" }]);
  expect(letters.filter((letter) => rows.has(identityKey(letter)))).toHaveLength(1000);
  expect(rows.has(identityKey(foreign))).toBe(false);
  expect(rows.get(identityKey({ topic: EVENTS_TOPIC, id: uuidOf(400), apiKey: "key" }))).toEqual({
    epoch: "one",
    topic: EVENTS_TOPIC,
    partition: 400 % 300,
    offset: 400,
  });
  const ofEvents = asked.filter((sql) => sql.includes("events_raw"));
  expect(ofEvents).toHaveLength(2);
  for (const sql of ofEvents) expect(sql).not.toContain("WHERE uuid IN");
});

it("finds rows that were stored before there was a projection, before and after it is filled", async () => {
  await clickhouse.empty("ids");
  await warehouse.command("ALTER TABLE events_raw DROP PROJECTION by_id SETTINGS mutations_sync = 2");
  await store("before", 0, 20_000);
  await warehouse.command("DELETE FROM schema_migrations WHERE filename >= '0010'");
  await clickhouse.migrate("ids");
  await store("after", 20_000, 20_000);
  const both = [uuidOf(7), uuidOf(20_007)];
  expect((await lookUp(both)).map(({ epoch }) => epoch).sort()).toEqual(["after", "before"]);
  await warehouse.command("ALTER TABLE events_raw MATERIALIZE PROJECTION by_id SETTINGS mutations_sync = 2");
  const [filled] = await warehouse.query<{ n: string }>(
    "SELECT sum(rows) AS n FROM system.projection_parts WHERE database = currentDatabase() AND active AND name = 'by_id'",
  );
  expect(Number(filled?.n)).toBe(40_000);
  expect((await lookUp(both)).map(({ epoch }) => epoch).sort()).toEqual(["after", "before"]);
});

it("does not find what was deleted, and still finds its neighbours", async () => {
  await warehouse.command("DELETE FROM events_raw WHERE log_offset = 7");
  await warehouse.command("ALTER TABLE events_raw APPLY DELETED MASK SETTINGS mutations_sync = 2");
  expect((await lookUp([7, 8, 20_007].map(uuidOf))).map(({ offset }) => offset).sort((a, b) => a - b)).toEqual([
    8, 20_007,
  ]);
});
