// What the queries of docs/queries.md answer about known people, and what they must: each answer follows from how the
// data was made. For the test with few people and the command with many.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { personIdOf } from "#lib/events/ids.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { KnownEvent, KnownPeople } from "./known-people.ts";

export interface Asked {
  warehouse: Warehouse;
  known: KnownPeople;
  /** The time that the data was made for, microseconds since 1970. */
  nowUs: number;
}

/** To be compared deeply. */
export interface Answer {
  actual: unknown;
  expected: unknown;
}

export interface KnownAnswer {
  what: string;
  /** Headings of docs/queries.md whose queries it runs. */
  headings: readonly string[];
  ask(asked: Asked): Promise<Answer>;
}

const DAY_US = 86_400e6;

const page = readFileSync(fileURLToPath(new URL("../../docs/queries.md", import.meta.url)), "utf8");
/** SQL by heading. */
export const QUERIES: ReadonlyMap<string, readonly string[]> = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [
      section.slice(0, section.indexOf("\n")),
      [...section.matchAll(/```sql\n(.*?)```/gs)].map(([, sql = ""]) => sql),
    ]),
);

type Row = Record<string, unknown>;

/** An answer that one query gives. */
function byQuery(heading: string, compare: (rows: Row[], asked: Asked) => Answer | Promise<Answer>): KnownAnswer {
  const ask = async (asked: Asked) => {
    const [sql] = QUERIES.get(heading) ?? [];
    if (sql === undefined) throw new Error(`no query under "${heading}"`);
    return compare(await asked.warehouse.query<Row>(sql), asked);
  };
  return { what: heading, headings: [heading], ask };
}

/** Events and people by `key`, as ClickHouse has 64-bit numbers: in text. */
function tally(events: readonly KnownEvent[], key: (event: KnownEvent) => string): Map<string, [string, string]> {
  const groups = new Map<string, { events: number; people: Set<string> }>();
  for (const event of events) {
    const name = key(event);
    const group = groups.get(name) ?? { events: 0, people: new Set() };
    if (group.events++ === 0) groups.set(name, group);
    group.people.add(event.person);
  }
  return new Map([...groups].map(([name, { events: n, people }]) => [name, [String(n), String(people.size)]]));
}

const pairs = (rows: Row[], [key, ...values]: [string, ...string[]]) =>
  new Map(rows.map((row) => [String(row[key]), values.map((name) => String(row[name]))]));
const onlyEvents = (groups: Map<string, [string, string]>) => new Map([...groups].map(([name, [n]]) => [name, [n]]));
const onlyPeople = (groups: Map<string, [string, string]>) => new Map([...groups].map(([name, [, n]]) => [name, [n]]));
const dayOf = (us: number) => new Date(us / 1000).toISOString().slice(0, 10);
const since = ({ known, nowUs }: Asked, days: number) =>
  known.events.filter(({ timeUs }) => timeUs > nowUs - days * DAY_US);

const PEOPLE: KnownAnswer = {
  what: "the people, exactly those of the data with exactly their ids",
  headings: [],
  async ask({ warehouse, known }) {
    const rows = await warehouse.query<{ person: string; ids: string[] }>(
      "SELECT person_id AS person, arraySort(groupArray(distinct_id)) AS ids FROM person_distinct_ids FINAL GROUP BY person_id",
    );
    return {
      actual: new Map(rows.map(({ person, ids }) => [person, ids])),
      expected: new Map([...known.people].map(([person, ids]) => [personIdOf(person), [...ids].sort()])),
    };
  },
};

const COUNTS: KnownAnswer = {
  what: "the numbers of events and people",
  headings: [],
  async ask({ warehouse, known }) {
    const [actual] = await warehouse.query("SELECT count() AS n, uniqExact(person_id) AS people FROM events");
    return { actual, expected: { n: String(known.events.length), people: String(known.people.size) } };
  },
};

const SESSIONS: KnownAnswer = {
  what: "the numbers of sessions and of events in them",
  headings: [],
  async ask({ warehouse, known }) {
    const [actual] = await warehouse.query("SELECT count() AS n, sum(event_count) AS events FROM sessions");
    const within = known.events.filter(({ sessionId }) => sessionId !== "");
    const n = new Set(within.map(({ sessionId }) => sessionId)).size;
    return { actual, expected: { n: String(n), events: String(within.length) } };
  },
};

const eachPerson = byQuery("What each person did", (rows, { known }) => {
  const totals = tally(known.events, ({ person }) => personIdOf(person));
  const views = known.events.filter(({ event }) => event === "$pageview");
  const pageviews = tally(views, ({ person }) => personIdOf(person));
  const latest = known.events.reduce((last, { timeUs }) => Math.max(last, timeUs), 0);
  return {
    actual: {
      rows: rows.map(({ person_id, events, pageviews: seen }) => [person_id, events, seen]),
      latest: Date.parse(`${String(rows[0]?.last_seen).replace(" ", "T")}Z`),
    },
    expected: {
      // Which hundred of those who were there last is for the query to say; what it says of them is known.
      rows: rows
        .slice(0, 100)
        .map(({ person_id: id }) => [id, totals.get(String(id))?.[0], pageviews.get(String(id))?.[0] ?? "0"]),
      latest: Math.floor(latest / 1000),
    },
  };
});

const sessions = byQuery("Recent sessions", (rows, { known }) => {
  const counts = tally(known.events, ({ sessionId }) => sessionId);
  return {
    actual: { rows: rows.length, counts: rows.map(({ event_count }) => event_count) },
    expected: { rows: 100, counts: rows.map(({ session_id: id }) => counts.get(String(id))?.[0]) },
  };
});

const funnel = byQuery("Signup funnel of the last 30 days", (actual, { known }) => {
  const times = new Map<string, { started?: number; completed?: number }>();
  for (const { event, person, timeUs } of known.events) {
    const time = times.get(person) ?? {};
    if (event === "signup_started") time.started = Math.min(time.started ?? timeUs, timeUs);
    if (event === "signup_completed") time.completed = Math.max(time.completed ?? 0, timeUs);
    times.set(person, time);
  }
  const started = [...times.values()].filter((time) => time.started !== undefined);
  const completed = started.filter((time) => (time.completed ?? 0) >= (time.started ?? 0));
  if (completed.length === 0) throw new Error("nobody completed a signup: the data says nothing about the funnel");
  return {
    actual,
    expected: [{ people_started: String(started.length), people_completed: String(completed.length) }],
  };
});

const withProfiles = byQuery("Events with their person's email and plan, last 7 days", (rows, asked) => {
  const { plans } = asked.known;
  const latest = since(asked, 7)
    .sort((one, other) => other.timeUs - one.timeUs)
    .slice(0, 100);
  return {
    actual: {
      events: rows.map(({ event, plan }) => `${event} ${plan}`).sort(),
      halfKnown: rows.filter(({ email, plan }) => (email !== "") !== (plan !== "")),
    },
    expected: {
      events: latest.map(({ event, person }) => `${event} ${plans.get(person) ?? ""}`).sort(),
      halfKnown: [],
    },
  };
});

const eventNames = byQuery("Recent event names with a sample", (rows, asked) => {
  const hasBrowser = (sample: unknown) => Object.hasOwn(JSON.parse(String(sample)), "$browser");
  return {
    actual: { counts: pairs(rows, ["event", "events"]), samples: rows.map(({ sample }) => hasBrowser(sample)) },
    expected: {
      counts: onlyEvents(tally(since(asked, 7), ({ event }) => event)),
      samples: rows.map(() => true),
    },
  };
});

/** All that can be known of people by their number alone; needs at least 100 of them. */
export const KNOWN_ANSWERS: readonly KnownAnswer[] = [
  PEOPLE,
  COUNTS,
  SESSIONS,
  eachPerson,
  sessions,
  funnel,
  withProfiles,
  eventNames,
  byQuery("Daily events and people", (rows, { known }) => ({
    actual: pairs(rows, ["day", "events", "people"]),
    expected: tally(known.events, ({ timeUs }) => dayOf(timeUs)),
  })),
  byQuery("Top events of the last 7 days", (rows, asked) => ({
    actual: pairs(rows, ["event", "events", "people"]),
    expected: tally(since(asked, 7), ({ event }) => event),
  })),
  byQuery("People by plan", (rows, { known }) => {
    const counts = new Map<string, number>();
    for (const plan of known.plans.values()) counts.set(plan, (counts.get(plan) ?? 0) + 1);
    return { actual: new Map(rows.map(({ plan, people }) => [plan, Number(people)])), expected: counts };
  }),
  byQuery("A property of an event, last day", (rows, asked) => {
    const clicks = since(asked, 1).filter(({ event }) => event === "clicked");
    const expected = onlyEvents(tally(clicks, ({ properties }) => String(properties.button)));
    return { actual: pairs(rows, ["button", "clicks"]), expected };
  }),
  byQuery("A property whose name begins with a dollar sign", (rows, { known }) => {
    const views = known.events.filter(({ event }) => event === "$pageview");
    const expected = onlyPeople(tally(views, ({ properties }) => String(properties.$browser)));
    return { actual: pairs(rows, ["browser", "people"]), expected };
  }),
  byQuery("Distinct ids of one person", (rows) => ({
    actual: rows.map(({ distinct_id }) => distinct_id),
    expected: ["anon_42", "user_42"],
  })),
  byQuery("Properties of the person behind a distinct id", (actual) => ({
    actual,
    expected: [
      {
        ...{ id: personIdOf("user_42"), distinct_id: "user_42", is_identified: 1 },
        properties: '{"email":"user_42@example.com","plan":"free"}',
      },
    ],
  })),
];
