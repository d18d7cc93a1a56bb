// EventQueryService on a real ClickHouse: names, trends, events, properties, people, dead letters, and who may ask.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EventQueryService, TrendInterval } from "#gen/millrace/stats/v1/event_queries_pb.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { personIdOf } from "#lib/events/ids.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createEventAccess } from "../../services/stats/event-access.ts";
import { registerEventQueries } from "../../services/stats/event-queries/service.ts";
import { readNames, readTrend } from "../../services/stats/event-queries/trends.ts";
import { createRunner } from "../../services/stats/queries/run.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callH1 } from "../kit/http-calls.ts";
import { memoryLog, startTestStats, type TestStats, TOKEN } from "../kit/stats-live.ts";

const PATH = "/millrace.stats.v1.EventQueryService";
const HOUR_MS = 3_600_000;
/** Begin of the hour before this one. */
const BEGIN_MS = Math.floor(Date.now() / HOUR_MS) * HOUR_MS - HOUR_MS;
const HOSTILE = ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "__proto__", 'a"b\\c', "x".repeat(190)];

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let log: OpenLog;
let stats: TestStats;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("queries");
  warehouse = clickhouse.warehouse("queries");
  let offset = 0;
  const rows = [
    // Ten visits a minute apart, by plan; then one event of each hostile name.
    ...Array.from({ length: 10 }, (_, n) => {
      return {
        event: "visit",
        id: n < 6 ? "ada" : "bob",
        ms: BEGIN_MS + n * 60_000,
        properties: { plan: n < 7 ? "pro" : "free", n },
      };
    }),
    {
      event: "visit",
      id: "",
      ms: BEGIN_MS + 10 * 60_000,
      properties: { plan: null, nul: "a\0b", long: "y".repeat(1_000_000) },
    },
    ...HOSTILE.map((event, n) => ({
      event,
      id: event,
      ms: BEGIN_MS + 20 * 60_000 + n,
      properties: { [event]: event },
    })),
  ];
  const columns = ["uuid", "event", "distinct_id", "person_id_at_ingest", "timestamp", "inserted_at", "properties"];
  const places = ["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"];
  await warehouse.insert({
    ...{ table: "events_raw", columns: [...columns, ...places], token: "events" },
    rows: Buffer.from(
      rows
        .map(({ event, id, ms, properties }) => {
          const at = new Date(ms).toISOString();
          const row = [crypto.randomUUID(), event, id, personIdOf(id), at, at, JSON.stringify(properties)];
          return `${JSON.stringify([...row, "e", "millrace.events", 0, offset++, new Date().toISOString()])}\n`;
        })
        .join(""),
    ),
  });
  // bob turned out to be ada, who has a plan.
  await warehouse.command(`INSERT INTO person_overrides VALUES ('${personIdOf("bob")}', '${personIdOf("ada")}', 1)`);
  await warehouse.command(`INSERT INTO identity_ids VALUES ('${personIdOf("ada")}', 'ada', 1, 1, ${BEGIN_MS}000, ${BEGIN_MS}001),
    ('${personIdOf("bob")}', 'bob', 0, 0, ${BEGIN_MS}000, ${BEGIN_MS}002)`);
  const stamp = `${String(BEGIN_MS)}000`.padStart(17, "0") + crypto.randomUUID();
  await warehouse.command(
    `INSERT INTO identity_properties VALUES ('${personIdOf("ada")}', 'plan', '${stamp}0"pro"', '~')`,
  );
  await warehouse.command(`INSERT INTO dead_letters SELECT 'e', 'millrace.events', 0, 100 + number, now64(3), if(number < 3, 'undecodable', '${"<b>"}'),
    'why', '', base64Encode(concat('begin', char(0), '<b>')) FROM numbers(4)`);
  log = await memoryLog();
  const runner = createRunner({ warehouse, maxConcurrent: 4 });
  const registerOthers = (router: ConnectRouter) =>
    registerEventQueries(router, { warehouse, runner, nowMs: Date.now });
  stats = await startTestStats({ log, registerOthers });
});
afterAll(async () => {
  await stats[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

const range = { from: timestampFromMs(BEGIN_MS), to: timestampFromMs(BEGIN_MS + HOUR_MS) };
const authorise: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${TOKEN}`);
  return next(request);
};
const asked = () =>
  createClient(
    EventQueryService,
    createConnectTransport({ baseUrl: stats.url, httpVersion: "1.1", interceptors: [authorise] }),
  );
const invalid = (message: RegExp) => ({ code: Code.InvalidArgument, message: expect.stringMatching(message) });

describe("names", () => {
  it("come with counts, the most frequent first, and as they are", async () => {
    const { names, totalEvents, totalNames } = await asked().listEventNames({ range });
    expect(names.map(({ event, count }) => [event, Number(count)])).toEqual([
      ["visit", 11],
      ...HOSTILE.toSorted((a, b) => (Buffer.from(a) < Buffer.from(b) ? -1 : 1)).map((event) => [event, 1]),
    ]);
    expect([totalEvents, totalNames]).toEqual([BigInt(11 + HOSTILE.length), BigInt(1 + HOSTILE.length)]);
  });

  it("are found by a part, whatever the case; the totals are of what fits", async () => {
    const { names, totalEvents } = await asked().listEventNames({ range, contains: "VIS" });
    expect([names.map(({ event }) => event), totalEvents]).toEqual([["visit"], 11n]);
    expect((await asked().listEventNames({ range, contains: "%" })).names).toEqual([]);
  });

  it("of a time without events are none", async () => {
    const before = { from: timestampFromMs(0), to: timestampFromMs(1000) };
    expect(await asked().listEventNames({ range: before })).toMatchObject({ names: [], totalEvents: 0n });
  });
});

describe("trend", () => {
  it("has every window of the range, with zeros", async () => {
    const { times, series, interval } = await asked().queryTrend({ range, event: "visit" });
    expect([interval, times.length, series.length]).toEqual([TrendInterval.MINUTE, 60, 1]);
    expect(series[0]?.counts.slice(0, 13).map(Number)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    expect(series[0]?.total).toBe(11n);
  });

  it("by a property has the values, and events without it", async () => {
    const { series, sampledOneIn } = await asked().queryTrend({
      range,
      event: "visit",
      breakdown: "plan",
      interval: TrendInterval.HOUR,
    });
    expect(series.map(({ value, total, isRest }) => [value, Number(total), isRest])).toEqual([
      ["pro", 7, false],
      ["free", 3, false],
      ["null", 1, false],
    ]);
    expect(sampledOneIn).toBe(1);
  });

  it("by a property of many values has the ten most frequent and the rest", async () => {
    const { series } = await asked().queryTrend({ range, breakdown: "n" });
    expect(series).toHaveLength(11);
    expect(series.at(-1)?.isRest).toBe(true);
    expect(series.reduce((sum, { total }) => sum + Number(total), 0)).toBe(11 + HOSTILE.length);
  });

  it.each(["nul", "long", "__proto__", "no'; DROP TABLE events_raw"])("by %s breaks nothing", async (breakdown) => {
    const { series } = await asked().queryTrend({ range, breakdown });
    expect(series.reduce((sum, { total }) => sum + Number(total), 0)).toBe(11 + HOSTILE.length);
  });

  it("of too many windows is refused by name", async () => {
    const long = { from: timestampFromMs(0), to: timestampFromMs(HOUR_MS * 1000) };
    await expect(asked().queryTrend({ range: long, interval: TrendInterval.MINUTE })).rejects.toMatchObject(
      invalid(/interval: makes 60000 windows/),
    );
    await expect(asked().queryTrend({ range: { from: range.to, to: range.from } })).rejects.toMatchObject(
      invalid(/range\.from: is not before/),
    );
  });
});

describe("counts", () => {
  /** Statements as they are sent, with their parameters. */
  function recording() {
    const asked: { sql: string; params: Record<string, unknown> }[] = [];
    const query: Warehouse["query"] = (sql, options) => {
      asked.push({ sql, params: options?.params ?? {} });
      return warehouse.query(sql, options);
    };
    return { asked, runner: createRunner({ warehouse: { query }, maxConcurrent: 4 }) };
  }

  it.each([
    ["whole hours", 0, 2 * HOUR_MS],
    ["parts of hours at both ends", 5 * 60_000 + 1, HOUR_MS + 30 * 60_000],
    ["less than an hour", 60_000, 9 * 60_000 + 1],
    ["an end within the first hour", -3 * HOUR_MS - 7, 4 * 60_000],
    ["a begin within the last one", 3 * 60_000, HOUR_MS],
  ])("of %s are those of the events themselves", async (_, fromMs, toMs) => {
    const of = { fromMs: BEGIN_MS + fromMs, toMs: BEGIN_MS + toMs };
    const { runner } = recording();
    const where = `timestamp >= fromUnixTimestamp64Milli(${of.fromMs}) AND timestamp < fromUnixTimestamp64Milli(${of.toMs})`;
    const [{ n, names, last } = { n: "", names: "", last: "" }] = await warehouse.query<Record<string, string>>(
      `SELECT toString(count()) AS n, toString(uniqExact(event)) AS names, toString(toUnixTimestamp64Milli(max(timestamp))) AS last
       FROM events_raw WHERE ${where}`,
    );
    const found = await readNames(runner, { range: of, contains: "", limit: 100 });
    expect([found.totalEvents, found.totalNames]).toEqual([Number(n), Number(names)]);
    expect(Math.max(...found.names.map(({ lastMs }) => lastMs))).toBe(Number(last));
    const trend = await readTrend(runner, { range: of, event: "", stepMs: HOUR_MS, breakdown: "" });
    const whole = await readNames(runner, {
      range: { ...of, fromMs: trend.timesMs[0] ?? 0 },
      contains: "",
      limit: 100,
    });
    expect(trend.series[0]?.total).toBe(whole.totalEvents);
  });

  it("of whole hours are read from the projection, by hour, by day and by name", async () => {
    const { asked, runner } = recording();
    const of = { fromMs: BEGIN_MS - 48 * HOUR_MS, toMs: BEGIN_MS + HOUR_MS };
    await readNames(runner, { range: of, contains: "vis", limit: 100 });
    for (const stepMs of [HOUR_MS, 24 * HOUR_MS]) {
      for (const event of ["", "visit"]) await readTrend(runner, { range: of, event, stepMs, breakdown: "" });
    }
    expect(asked).toHaveLength(5);
    for (const { sql, params } of asked) {
      const plan = await warehouse.query<{ explain: string }>(`EXPLAIN ${sql}`, { params });
      expect(plan.map(({ explain }) => explain.trim()).join("\n"), sql).toContain("ReadFromMergeTree (by_hour)");
    }
  });

  it("by a property, from a sample, are shares of what came in each window", async () => {
    const rows = 4_000;
    const fromMs = BEGIN_MS - 30 * 24 * HOUR_MS;
    await warehouse.command(
      `INSERT INTO events_raw (uuid, event, timestamp, inserted_at, properties, log_epoch, log_topic, log_partition, log_offset, log_time)
       SELECT generateUUIDv4(), 'many', fromUnixTimestamp64Milli(toInt64(${fromMs} + intDiv(number * ${2 * HOUR_MS}, ${rows}))), now64(6),
         if(number % 4 = 0, '{"plan":"pro"}', '{"plan":"free"}'), 'e', 'millrace.events', 0, 1000 + number, now64(3) FROM numbers(${rows})`,
    );
    const { runner } = recording();
    const of = { fromMs, toMs: fromMs + 2 * HOUR_MS };
    const asked = { range: of, event: "many", stepMs: HOUR_MS, breakdown: "plan" };
    const exact = await readTrend(runner, asked);
    expect(exact.series.map(({ value, counts }) => [value, counts])).toEqual([
      ["free", [1500, 1500]],
      ["pro", [500, 500]],
    ]);
    const { series, every } = await readTrend(runner, { ...asked, sample: { blocks: 10, rows: 400 } });
    expect(every).toBe(10);
    for (const window of [0, 1]) expect(series.reduce((sum, { counts }) => sum + (counts[window] ?? 0), 0)).toBe(2_000);
    // A quarter of 400: five standard deviations are 0.11.
    expect(Math.abs((series[0]?.total ?? 0) / rows - 0.75)).toBeLessThan(0.11);
  });

  it("by a property of all names, from a sample, are estimated from each name's own events, and add up", async () => {
    const rows = 40_000;
    const fromMs = BEGIN_MS - 60 * 24 * HOUR_MS;
    // Half of the events are of one name, a quarter of the next, and each name has a plan of its own.
    await warehouse.command(
      `INSERT INTO events_raw (uuid, event, timestamp, inserted_at, properties, log_epoch, log_topic, log_partition, log_offset, log_time)
       SELECT generateUUIDv4(), concat('of_', plan), fromUnixTimestamp64Milli(toInt64(${fromMs} + intDiv(number * ${2 * HOUR_MS}, ${rows}))), now64(6),
         concat('{"plan":"', ['big','big','middle','small'][number % 4 + 1] AS plan, '"}'), 'e', 'millrace.events', 0, 10000 + number, now64(3)
       FROM numbers(${rows})`,
    );
    const { runner } = recording();
    const of = { fromMs, toMs: fromMs + 2 * HOUR_MS };
    const asked = { range: of, event: "", stepMs: HOUR_MS, breakdown: "plan", sample: { blocks: 10, rows: 1_000 } };
    const { series, every } = await readTrend(runner, asked);
    expect(every).toBe(40);
    // Exact, since nothing within a name is to be estimated.
    expect(series.map(({ value, isRest, counts }) => [value, isRest, counts])).toEqual([
      ["big", false, [10_000, 10_000]],
      expect.arrayContaining([false, [5_000, 5_000]]),
      expect.arrayContaining([false, [5_000, 5_000]]),
    ]);
  });
});

describe("events", () => {
  it("come page by page, the newest first, none twice and none left out", async () => {
    const seen: string[] = [];
    for (let pageToken = "", pages = 0; pages === 0 || pageToken !== ""; pages++) {
      const page = await asked().listEvents({ range, pageSize: 4, pageToken });
      seen.push(...page.events.map(({ logOffset }) => String(logOffset)));
      pageToken = page.nextPageToken;
    }
    expect(seen).toEqual(Array.from({ length: 11 + HOSTILE.length }, (_, n) => String(10 + HOSTILE.length - n)));
  });

  it("of a person are those of all its ids, whichever is named", async () => {
    for (const id of ["ada", "bob"]) {
      const { events } = await asked().listEvents({ range, person: { case: "personId", value: personIdOf(id) } });
      expect(events, id).toHaveLength(10);
    }
    const { events } = await asked().listEvents({
      range,
      event: "visit",
      person: { case: "distinctId", value: "bob" },
    });
    expect(events.map(({ distinctId }) => distinctId)).toEqual(["bob", "bob", "bob", "bob"]);
  });

  it("carry a megabyte cut, and NUL as JSON has it", async () => {
    const { events } = await asked().listEvents({ range, event: "visit", pageSize: 1 });
    expect(events[0]?.propertiesJson).toHaveLength(16_000);
    expect(events[0]?.propertiesJson).toMatch(/"nul":"a\\u0000b".*…$/);
    expect(events[0]?.personIdAtIngest).toBe("");
  });

  it.each([
    [{ pageToken: "x" }, /page_token: is not one/],
    [{ pageToken: Buffer.from('["a",{},1]').toString("base64url") }, /page_token: is not one/],
    [{ pageSize: 501 }, /page_size: 501 is out of range/],
    [{ person: { case: "personId" as const, value: "' OR 1" } }, /person_id: is not a UUID/],
    [{ person: { case: "distinctId" as const, value: "a\0" } }, /distinct_id: /],
    [{ event: "a\0" }, /NUL/],
  ])("%o is refused by name", async (fields, message) => {
    await expect(asked().listEvents({ range, ...fields })).rejects.toMatchObject(invalid(message));
  });
});

it("properties have types, frequency and an example, also of hostile keys", async () => {
  const { properties, totalEvents, sampledEvents } = await asked().listProperties({ event: "visit", days: 2 });
  expect([totalEvents, sampledEvents]).toEqual([11n, 11n]);
  expect(properties.map(({ key, events, types }) => [key, Number(events), types])).toEqual([
    ["plan", 11, ["null", "string"]],
    ["n", 10, ["integer"]],
    ["long", 1, ["string"]],
    ["nul", 1, ["string"]],
  ]);
  const all = await asked().listProperties({});
  for (const key of HOSTILE) expect(all.properties.map((each) => each.key)).toContain(key);
  expect(all.properties.every(({ exampleJson }) => exampleJson.length <= 200)).toBe(true);
});

describe("people", () => {
  it("seen lately are those of the last events, with their person of today", async () => {
    const { people } = await asked().listPeople({});
    const found = new Map(
      people.map(({ distinctId, personId, isIdentified }) => [distinctId, [personId, isIdentified]]),
    );
    expect(found.get("bob")).toEqual([personIdOf("ada"), true]);
    expect([...found.keys()].sort()).toEqual(["ada", "bob", ...HOSTILE].sort());
  });

  it("are found by a part that facts name, or by a whole id that only events carry", async () => {
    const ids = async (contains: string) =>
      (await asked().listPeople({ contains })).people.map(({ distinctId }) => distinctId);
    expect(await ids("AD")).toEqual(["ada"]);
    expect(await ids("__proto__")).toEqual(["__proto__"]);
    expect(await ids("nobody")).toEqual([]);
  });

  it("have ids and properties; one that nobody knows has none", async () => {
    const person = await asked().getPerson({ person: { case: "distinctId", value: "bob" } });
    expect(person).toMatchObject({
      ...{
        personId: personIdOf("ada"),
        distinctIds: ["ada", "bob"],
        isIdentified: true,
        propertiesJson: '{"plan":"pro"}',
      },
    });
    const unknown = await asked().getPerson({ person: { case: "distinctId", value: "zoe" } });
    expect(unknown).toMatchObject({
      personId: personIdOf("zoe"),
      distinctIds: ["zoe"],
      propertiesJson: "{}",
      isIdentified: false,
    });
    await expect(asked().getPerson({})).rejects.toMatchObject(invalid(/person_id: is missing/));
  });
});

it("dead letters come by class and page by page", async () => {
  const first = await asked().listDeadLetters({ pageSize: 3 });
  expect(first.classes.map(({ errorClass, count }) => [errorClass, Number(count)])).toEqual([
    ["undecodable", 3],
    ["<b>", 1],
  ]);
  const second = await asked().listDeadLetters({ pageSize: 3, pageToken: first.nextPageToken });
  expect([...first.letters, ...second.letters].map(({ position }) => position)).toEqual(
    [103, 102, 101, 100].map((offset) => `e:millrace.events:0:${offset}`),
  );
  expect(second.nextPageToken).toBe("");
  expect(first.letters[0]).toMatchObject({ text: "begin.<b>", error: "why" });
});

describe("who may ask", () => {
  it("without the token nobody, whatever the protocol", async () => {
    for (const headers of [{}, { authorization: "Bearer wrong" }]) {
      const body = "{}";
      const { status } = await callH1(stats.port, `${PATH}/ListEvents`, {
        body,
        headers: { "content-type": "application/json", ...headers },
      });
      expect(status).toBe(401);
    }
  });

  it.each<[string, Record<string, string>, boolean]>([
    ["a program", {}, true],
    ["our own page", { origin: "http://127.0.0.1:8081" }, true],
    ["another page", { origin: "http://evil.example" }, false],
    ["a page of another port", { origin: "http://127.0.0.1:9" }, false],
    ["a sandboxed page", { origin: "null" }, false],
    ["a page whose name was pointed here", { host: "evil.example:8081", origin: "http://evil.example:8081" }, false],
  ])("on loopback without a token: %s", (_, headers, isAllowed) => {
    const access = createEventAccess({
      token: undefined,
      publicKeys: [],
      secretKeys: [],
      host: "127.0.0.1",
      corsAllow: "*",
    });
    const request = { headers: { host: "127.0.0.1:8081", ...headers }, url: "/" };
    expect(access.refusalOf(request as never) === undefined).toBe(isAllowed);
  });

  it.each([
    ["a token", true],
    ["sk", true],
    ["pk", false],
    ["", false],
  ])("with a token or secret keys: %j", (given, isAllowed) => {
    const access = createEventAccess({
      token: TOKEN,
      publicKeys: ["pk"],
      secretKeys: ["sk", "pk"],
      host: "127.0.0.1",
      corsAllow: "*",
    });
    const request = { headers: { host: "h", authorization: `Bearer ${given}` }, url: "/" };
    expect(access.refusalOf(request as never) === undefined).toBe(isAllowed);
  });
});
