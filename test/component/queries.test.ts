// The queries of docs/queries.md on generated people: each answer is known from how the data was made. `npm run people`
// asks the same of as many people as one likes.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage } from "../kit/consumer.ts";
import { resolved } from "../kit/identity.ts";
import { KNOWN_ANSWERS, QUERIES } from "../kit/known-answers.ts";
import { type KnownPeople, knownPeople } from "../kit/known-people.ts";

const USERS = 2000;
const EVENTS_PER_USER = 50;

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let known: KnownPeople;
const nowUs = Date.now() * 1000;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("queries");
  warehouse = clickhouse.warehouse("queries");
  known = knownPeople(USERS, EVENTS_PER_USER, nowUs);
  await using stage = await createStage(warehouse, { partitions: 4, epoch: "e" });
  await stage.append(...known.events.map(({ record }) => record));
  stage.start();
  await stage.drained();
  await resolved(warehouse);
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

it.each(KNOWN_ANSWERS.map((each) => [each.what, each] as const))("%s: as it is known", async (_, { ask }) => {
  const { actual, expected } = await ask({ warehouse, known, nowUs });
  expect(actual).toEqual(expected);
});

describe("docs/queries.md", () => {
  it("has no query that is not run here", () => {
    const run = new Set(["Columns", ...KNOWN_ANSWERS.flatMap(({ headings }) => headings)]);
    expect([...QUERIES].filter(([heading, sql]) => sql.length === 0 || !run.has(heading))).toEqual([]);
  });

  it("columns, those of the contract with its types", async () => {
    const columns = await Promise.all((QUERIES.get("Columns") ?? []).map((sql) => warehouse.query<Column>(sql)));
    const shown = columns.map((of) => of.map(({ name, type }) => `${name} ${type}`));
    const [events = [], persons, ids, sessions] = shown;
    expect(events.slice(0, 18)).toEqual([
      ...["uuid UUID", "api_key LowCardinality(String)", "event LowCardinality(String)", "distinct_id String"],
      ...["person_id UUID", "session_id String", "session_id_uuid Nullable(UUID)", "window_id String"],
      ...["window_id_uuid Nullable(UUID)", "elements_chain String", `timestamp ${TIME}`, `inserted_at ${TIME}`],
      ...[
        "ip String",
        "user_agent String",
        "current_url String",
        "host String",
        "properties String",
        "is_deleted Int8",
      ],
    ]);
    expect(persons).toEqual([
      ...["distinct_id String", "id UUID", "properties String", `created_at ${TIME}`, `updated_at ${TIME}`],
      ...[`last_seen_at ${TIME}`, "is_identified Int8", "is_deleted Int8", "version Int64"],
    ]);
    expect(ids).toEqual([
      ...["distinct_id String", "person_id UUID", `created_at ${TIME}`, "is_deleted Int8", "version Int64"],
    ]);
    expect(sessions).toEqual([
      ...["api_key LowCardinality(String)", "session_id String", "distinct_id String", "person_id UUID"],
      ...[`started_at ${TIME}`, `ended_at ${TIME}`, "duration_seconds Int64", "urls Array(String)", "entry_url String"],
      ...["exit_url String", "host String", "event_count UInt64", "pageview_count UInt64", "autocapture_count UInt64"],
      "event_names Array(String)",
    ]);
  });
});

interface Column {
  name: string;
  type: string;
}
const TIME = "DateTime64(6, 'UTC')";
