// The queries of docs/queries.md on generated people: each answer is known from how the data was made.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../support/clickhouse.ts";
import { createStage } from "../support/consumer.ts";
import { resolved } from "../support/identity.ts";
import { type KnownEvent, type KnownPeople, knownPeople } from "../support/known-people.ts";

const USERS = 2000;
const EVENTS_PER_USER = 50;
const DAY_US = 86_400e6;

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

const page = readFileSync(fileURLToPath(new URL("../../docs/queries.md", import.meta.url)), "utf8");
/** SQL by heading; several under one heading are joined by a semicolon. */
const queries = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [
      section.slice(0, section.indexOf("\n")),
      [...section.matchAll(/```sql\n(.*?)```/gs)].map(([, sql = ""]) => sql),
    ]),
);

function run(heading: string): Promise<Record<string, unknown>[]> {
  const [sql] = queries.get(heading) ?? [];
  if (sql === undefined) throw new Error(`no query under "${heading}"`);
  return warehouse.query(sql);
}

const since = (days: number) => known.events.filter(({ timeUs }) => timeUs > nowUs - days * DAY_US);

/** Events and people by `key`, as ClickHouse has 64-bit numbers: in text. */
function tally(events: readonly KnownEvent[], key: (event: KnownEvent) => string) {
  const groups = new Map<string, { events: number; people: Set<string> }>();
  for (const event of events) {
    const group = groups.get(key(event)) ?? { events: 0, people: new Set() };
    group.events++;
    groups.set(key(event), { ...group, people: group.people.add(event.person) });
  }
  return new Map([...groups].map(([name, { events: n, people }]) => [name, [String(n), String(people.size)]]));
}

const pairs = (rows: Record<string, unknown>[], [key, ...values]: [string, ...string[]]) =>
  new Map(rows.map((row) => [String(row[key]), values.map((name) => String(row[name]))]));
const timeOf = (us: number) => new Date(us / 1000).toISOString().slice(0, 10);

it("the people are exactly those of the generated data, with exactly their ids", async () => {
  const rows = await warehouse.query<{ person: string; ids: string[] }>(
    "SELECT person_id AS person, arraySort(groupArray(distinct_id)) AS ids FROM person_distinct_ids FINAL GROUP BY person_id",
  );
  const expected = new Map([...known.people].map(([person, ids]) => [personIdOf(person), [...ids].sort()]));
  expect(new Map(rows.map(({ person, ids }) => [person, ids]))).toEqual(expected);
  const [counted] = await warehouse.query("SELECT count() AS n, uniqExact(person_id) AS people FROM events");
  expect(counted).toEqual({ n: String(known.events.length), people: String(known.people.size) });
});

describe("docs/queries.md", () => {
  it("has no query that is not run here", () => {
    const source = readFileSync(fileURLToPath(import.meta.url), "utf8");
    expect([...queries].filter(([heading, sql]) => sql.length === 0 || !source.includes(`"${heading}"`))).toEqual([]);
  });

  it("daily events and people", async () => {
    const rows = await run("Daily events and people");
    expect(pairs(rows, ["day", "events", "people"])).toEqual(tally(known.events, ({ timeUs }) => timeOf(timeUs)));
  });

  it("top events", async () => {
    const rows = await run("Top events of the last 7 days");
    expect(pairs(rows, ["event", "events", "people"])).toEqual(tally(since(7), ({ event }) => event));
  });

  it("what each person did", async () => {
    const rows = await run("What each person did");
    const totals = tally(known.events, ({ person }) => personIdOf(person));
    const views = known.events.filter(({ event }) => event === "$pageview");
    const pageviews = tally(views, ({ person }) => personIdOf(person));
    expect(rows).toHaveLength(100);
    for (const { person_id, events, pageviews: seen } of rows as Record<string, string>[]) {
      expect([events, seen]).toEqual([totals.get(person_id ?? "")?.[0], pageviews.get(person_id ?? "")?.[0]]);
    }
    const latest = known.events.reduce((last, { timeUs }) => Math.max(last, timeUs), 0);
    expect(Date.parse(`${String(rows[0]?.last_seen).replace(" ", "T")}Z`)).toBe(Math.floor(latest / 1000));
  });

  it("recent sessions", async () => {
    const rows = await run("Recent sessions");
    const counts = tally(
      known.events.filter(({ sessionId }) => sessionId !== ""),
      ({ sessionId }) => sessionId,
    );
    expect(rows).toHaveLength(100);
    for (const row of rows) expect(row.event_count).toBe(counts.get(row.session_id as string)?.[0]);
    const [total] = await warehouse.query("SELECT count() AS n, sum(event_count) AS events FROM sessions");
    const events = known.events.filter(({ sessionId }) => sessionId !== "").length;
    expect(total).toEqual({ n: String(counts.size), events: String(events) });
  });

  it("signup funnel", async () => {
    const times = new Map<string, { started?: number; completed?: number }>();
    for (const { event, person, timeUs } of known.events) {
      const time = times.get(person) ?? {};
      if (event === "signup_started") time.started = Math.min(time.started ?? timeUs, timeUs);
      if (event === "signup_completed") time.completed = Math.max(time.completed ?? 0, timeUs);
      times.set(person, time);
    }
    const started = [...times.values()].filter((time) => time.started !== undefined);
    const completed = started.filter((time) => (time.completed ?? 0) >= (time.started ?? 0));
    expect(completed.length).toBeGreaterThan(0);
    expect(await run("Signup funnel of the last 30 days")).toEqual([
      { people_started: String(started.length), people_completed: String(completed.length) },
    ]);
  });

  it("people by plan", async () => {
    const counts = new Map<string, number>();
    for (const plan of known.plans.values()) counts.set(plan, (counts.get(plan) ?? 0) + 1);
    const rows = await run("People by plan");
    expect(new Map(rows.map(({ plan, people }) => [plan, Number(people)]))).toEqual(counts);
  });

  it("events with email and plan", async () => {
    const rows = await run("Events with their person's email and plan, last 7 days");
    const latest = since(7)
      .sort((one, other) => other.timeUs - one.timeUs)
      .slice(0, 100);
    expect(rows.map(({ event, plan }) => `${event} ${plan}`).sort()).toEqual(
      latest.map(({ event, person }) => `${event} ${known.plans.get(person) ?? ""}`).sort(),
    );
    expect(rows.every(({ email, plan }) => (email !== "") === (plan !== ""))).toBe(true);
  });

  it("properties of events", async () => {
    const clicks = since(1).filter(({ event }) => event === "clicked");
    const buttons = [...tally(clicks, ({ properties }) => String(properties.button))].map(([b, [n = ""]]) => [b, [n]]);
    const rows = await run("A property of an event, last day");
    expect(pairs(rows, ["button", "clicks"])).toEqual(new Map(buttons as [string, string[]][]));
    const views = known.events.filter(({ event }) => event === "$pageview");
    const browsers = [...tally(views, ({ properties }) => String(properties.$browser))].map(([b, [, n = ""]]) => [
      b,
      [n],
    ]);
    const people = await run("A property whose name begins with a dollar sign");
    expect(pairs(people, ["browser", "people"])).toEqual(new Map(browsers as [string, string[]][]));
  });

  it("columns, those of the contract with its types", async () => {
    const columns = await Promise.all((queries.get("Columns") ?? []).map((sql) => warehouse.query<Column>(sql)));
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

  it("recent event names", async () => {
    const rows = await run("Recent event names with a sample");
    const counts = [...tally(since(7), ({ event }) => event)].map(([event, [n = ""]]) => [event, [n]]);
    expect(pairs(rows, ["event", "events"])).toEqual(new Map(counts as [string, string[]][]));
    for (const { sample } of rows) expect(JSON.parse(sample as string)).toHaveProperty("$browser");
  });

  it("one person", async () => {
    const ids = await run("Distinct ids of one person");
    expect(ids.map(({ distinct_id }) => distinct_id)).toEqual(["anon_42", "user_42"]);
    expect(await run("Properties of the person behind a distinct id")).toEqual([
      {
        ...{ id: personIdOf("user_42"), distinct_id: "user_42", is_identified: 1 },
        properties: '{"email":"user_42@example.com","plan":"free"}',
      },
    ]);
  });
});

interface Column {
  name: string;
  type: string;
}
const TIME = "DateTime64(6, 'UTC')";
