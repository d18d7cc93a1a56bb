// GET /hourly/{stat} and /daily/{stat} (sections 1.5 and 1.6) in the README's form and the code's.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { noteNextSlot } from "#lib/points/progress.ts";
import { computeSlots, slotOf } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { NOW_MS, startTestStats, storePoints, type TestStats } from "../kit/stats.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let stats: TestStats;

/** How long ago hour:minute of today was; NOW_MS is 12:07:30. */
const ago = (hour: number, minute = 0, days = 0) => NOW_MS - Date.UTC(2026, 8, 20 - days, hour, minute);
/** Begin of an hour of today, seconds. */
const hour = (at: number, days = 0) => Date.UTC(2026, 8, 20 - days, at) / 1000;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("history");
  warehouse = clickhouse.warehouse("history");
  const [a, b] = [{ host: "a" }, { host: "b" }];
  await storePoints(warehouse, [
    // Three values in one five minutes of a, one in the next quarter of an hour; one of b.
    { metric: "ram", value: 1, tags: a, agoMs: ago(9, 1) },
    { metric: "ram", value: 2, tags: a, agoMs: ago(9, 2) },
    { metric: "ram", value: 3, tags: a, agoMs: ago(9, 3) },
    { metric: "ram", value: 10, tags: a, agoMs: ago(9, 20) },
    { metric: "ram", value: 100, tags: b, agoMs: ago(9, 21) },
    { metric: "ram", value: 7, tags: a, agoMs: ago(11, 59) },
    // Still within the quarter of an hour that is not over.
    { metric: "ram", value: 9, tags: a, agoMs: ago(12, 6) },
    { metric: "ram", value: 40, tags: a, agoMs: ago(9, 20, 1) },
    { metric: "ram", value: 70, tags: a, agoMs: ago(9, 20, 6) },
    { metric: "ram", value: 1000, tags: a, agoMs: ago(9, 20, 8) },
    { metric: "cpu", value: 1, agoMs: ago(11, 1) },
    { metric: "time", value: 1, agoMs: ago(11, 1) },
    { metric: "fresh", value: 1, agoMs: ago(12, 6) },
    // Each at the begin of five minutes, around the bounds of two hours.
    { metric: "bounds", value: 1, agoMs: ago(10, 5) },
    { metric: "bounds", value: 2, agoMs: ago(10, 10) },
    { metric: "bounds", value: 4, agoMs: ago(11, 5) },
    { metric: "bounds", value: 8, agoMs: ago(11, 10) },
    // 02:05 in Sydney: once on the day before, and twice on the day on which clocks are set back.
    { metric: "autumn", value: 8, agoMs: NOW_MS - Date.UTC(2026, 3, 3, 15, 5) },
    { metric: "autumn", value: 10, agoMs: NOW_MS - Date.UTC(2026, 3, 4, 15, 5) },
    { metric: "autumn", value: 30, agoMs: NOW_MS - Date.UTC(2026, 3, 4, 16, 5) },
  ]);
  stats = await startTestStats(warehouse, { timeZone: "UTC" });
});
afterAll(async () => {
  await stats?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

type Hours = { time: number; value: number }[];
const valuesOf = async (path: string) => (await stats.json<Hours>(path)).map(({ value }) => value);

describe("hourly", () => {
  it("is an array by hour, ascending, of the last day; begin in seconds, in the code's form milliseconds", async () => {
    expect((await stats.get("/hourly/ram?host=a")).text).toBe(
      `[{"time":${hour(9)},"value":4},{"time":${hour(11)},"value":7},{"time":${hour(12)},"value":9}]\n`,
    );
    const code = await stats.json<Hours>("/hourly/ram?host=a&compat=code");
    expect(code.map(({ time }) => time)).toEqual([hour(9) * 1000, hour(11) * 1000]);
  });

  it.each([
    ["mean", 23.2],
    ["min", 1],
    ["max", 100],
    ["sum", 116],
    ["count", 5],
    ["last", 100],
    ["spread", 99],
  ])("verb=%s is of all points: %d", async (verb, value) =>
    expect((await valuesOf(`/hourly/ram?verb=${verb}`))[0]).toBe(value),
  );

  it("has the median by a digest", async () => {
    expect((await valuesOf("/hourly/ram?verb=median"))[0]).toBeCloseTo(3, 0);
  });

  it.each([
    ["first", 2],
    ["mode", 2],
    ["stddev", 54.4],
  ])("verb=%s, which no roll-up holds, is of the means of five minutes: %d", async (verb, value) =>
    expect((await valuesOf(`/hourly/ram?verb=${verb}`))[0]).toBeCloseTo(value, 1),
  );

  it.each([
    ["mean", (2 + 10 + 100) / 3],
    ["max", 100],
    ["min", 2],
    ["count", 3],
    ["sum", 112],
    ["first", 2],
  ])("under compat=code verb=%s is of the means of a quarter of an hour by tags (pitfall 8): %d", async (verb, value) =>
    expect((await valuesOf(`/hourly/ram?verb=${verb}&compat=code`))[0]).toBeCloseTo(value, 9),
  );

  it("under compat=code is late by the interval, and never has cpu and time (pitfall 8)", async () => {
    expect(await valuesOf("/hourly/fresh")).toEqual([1]);
    expect(await valuesOf("/hourly/cpu")).toEqual([1]);
    for (const metric of ["fresh", "cpu", "time"]) {
      expect((await stats.get(`/hourly/${metric}?compat=code`)).status, metric).toBe(404);
      expect((await stats.get(`/daily/${metric}?compat=code`)).status, metric).toBe(404);
    }
  });

  it("under compat=code takes means of AGGREGATE_INTERVAL", async () => {
    await using wide = await startTestStats(warehouse, { pulseCompat: "code", aggregateInterval: HOUR_MS });
    const [first] = await wide.json<Hours>("/hourly/ram");
    expect(first).toEqual({ time: hour(9) * 1000, value: (4 + 100) / 2 });
  });

  it("goes back start and stops at stop, both counted from now (pitfall 7)", async () => {
    expect(await valuesOf("/hourly/ram?host=a&start=30h")).toEqual([40, 4, 7, 9]);
    expect(await valuesOf("/hourly/ram?host=a&start=9d&verb=max")).toEqual([1000, 70, 40, 10, 7, 9]);
    expect(await valuesOf("/hourly/ram?host=a&stop=30m")).toEqual([4]);
    expect(await valuesOf("/hourly/ram?host=a&start=&stop=")).toEqual([4, 7, 9]);
    expect(await valuesOf("/hourly/ram?host=a&start=40m&start=1d")).toEqual([7, 9]);
    expect((await stats.get("/hourly/ram?start=30m&stop=1h")).status).toBe(404);
  });

  it("leaves the bounds themselves out, by the begin of five minutes", async () => {
    const sum = async (start: string, stop: string) => valuesOf(`/hourly/bounds?verb=sum&start=${start}&stop=${stop}`);
    // Now is 12:07:30.5: 7350500 ms ago it was 10:05, 3450500 ms ago 11:10.
    expect(await sum("7350500ms", "3450500ms")).toEqual([2, 4]);
    expect(await sum("7350501ms", "3450499ms")).toEqual([3, 12]);
  });

  it("fills empty hours when it is told to, in the range only", async () => {
    expect((await valuesOf("/hourly/ram?host=a&backfill=-1.5")).length).toBe(25);
    const filled = await stats.json<Hours>("/hourly/ram?host=a&start=4h&backfill=0.5");
    expect(filled).toEqual([
      { time: hour(8), value: 0.5 },
      { time: hour(9), value: 4 },
      { time: hour(10), value: 0.5 },
      { time: hour(11), value: 7 },
      { time: hour(12), value: 9 },
    ]);
    expect((await valuesOf("/hourly/ram?host=a&start=4h&backfill=none"))[0]).toBe(0);
    expect(await valuesOf("/hourly/ram?host=a&start=4h&backfill=")).toEqual([4, 7, 9]);
  });

  it("has nothing where there is no point at all, backfill or not (pitfall 2)", async () => {
    for (const path of ["/hourly/none?backfill=1", "/hourly/ram?host=z&backfill=1", "/daily/none?backfill=1"]) {
      expect(await stats.get(path)).toMatchObject({ status: 404, text: '{"error":"Not Found"}\n' });
    }
  });

  it.each([
    "start=1",
    "start=-1d",
    "start=1.5h",
    "start=9e99d",
    "stop=now",
    "start=1d)%20--",
    "backfill=NaN",
    "backfill=1e999",
    "backfill=-Inf",
    "verb=none",
    "verb=percentile",
    "start=15250w&backfill=1",
  ])("%s is a 400 in both forms, where the original hung up", async (query) => {
    for (const compat of ["readme", "code"]) {
      for (const route of query.startsWith("start=15250w") ? ["hourly"] : ["hourly", "daily", "daily_peaks"]) {
        const { status, text } = await stats.get(`/${route}/ram?${query}&compat=${compat}`);
        expect({ status, text }, route).toEqual({ status: 400, text: expect.stringMatching(/^\{"error":".+"\}\n$/) });
      }
    }
  });

  it("goes back as far as time does", async () => {
    expect(await valuesOf("/hourly/ram?host=a&start=15250w&verb=count")).toEqual([1, 1, 1, 4, 1, 1]);
  });
});

describe("daily", () => {
  it("is a map of the time of day to the mean of the days, in clock order", async () => {
    const text = '{"09:00":2,"09:15":55,"11:45":7,"12:00":9}\n';
    expect((await stats.get("/daily/ram")).text).toBe(text);
    expect((await stats.get("/daily_peaks/ram")).text).toBe(text);
  });

  it("is an array in the code's form (pitfall 3)", async () => {
    const code = await stats.json<{ time: string; value: number }[]>("/daily/ram?host=a&compat=code");
    expect(code).toEqual([
      { time: "09:00", value: 2 },
      { time: "09:15", value: 40 },
      { time: "11:45", value: 7 },
    ]);
  });

  it("averages the days whatever the verb (pitfall 6)", async () => {
    expect(await stats.json("/daily/ram?verb=max")).toMatchObject({ "09:00": 3, "09:15": (100 + 40 + 70) / 3 });
    expect(await stats.json("/daily/ram?verb=count&host=a")).toMatchObject({ "09:00": 3, "09:15": 1 });
  });

  it("goes back a week unless it is told otherwise", async () => {
    expect(await stats.json("/daily/ram?host=a&start=9d&verb=max")).toMatchObject({
      "09:15": (10 + 40 + 70 + 1000) / 4,
    });
    expect(await stats.json("/daily/ram?host=a&start=1d")).toMatchObject({ "09:15": 10 });
    expect(await stats.json("/daily/ram?host=a&stop=1d")).toEqual({ "09:15": 55 });
  });

  it("fills all 96 quarters of an hour when it is told to", async () => {
    const map = await stats.json<Record<string, number>>("/daily/ram?backfill=-1");
    expect(Object.keys(map)).toHaveLength(96);
    expect([map["00:00"], map["09:00"], map["23:45"]]).toEqual([-1, 2, -1]);
    const array = await stats.json<unknown[]>("/daily/ram?backfill=x&compat=code");
    expect(array).toHaveLength(96);
    expect(array).toContainEqual({ time: "23:45", value: 0 });
  });

  it.each([
    ["Europe/Berlin", ["11:00", "11:15", "13:45", "14:00"]],
    ["Asia/Kathmandu", ["14:45", "15:00", "17:30", "17:45"]],
    ["America/Los_Angeles", ["02:00", "02:15", "04:45", "05:00"]],
  ])("is by the clocks of %s", async (timeZone, times) => {
    await using local = await startTestStats(warehouse, { timeZone });
    expect(Object.keys(await local.json<object>("/daily/ram"))).toEqual(times);
  });

  it.each([
    ["sum", (8 + 40) / 2],
    ["count", (1 + 2) / 2],
    ["min", (8 + 10) / 2],
    ["max", (8 + 30) / 2],
    ["first", (8 + 10) / 2],
    ["last", (8 + 30) / 2],
    ["mean", (8 + 20) / 2],
  ])("takes an hour that comes twice in a day for one: %s", async (verb, value) => {
    await using local = await startTestStats(warehouse, { timeZone: "Australia/Sydney" });
    expect(await local.json(`/daily/autumn?verb=${verb}&start=200d`)).toEqual({ "02:00": value });
  });
});

it("answers the same when slots are closed, rolled up, and their raw rows are gone", async () => {
  await clickhouse.migrate("rolled");
  const rolled = clickhouse.warehouse("rolled");
  await using fresh = await startTestStats(rolled, { timeZone: "UTC" });
  const points = Array.from({ length: 200 }, (_, i) => ({
    ...{ metric: "m", value: (i * 37) % 101, tags: { host: `h${i % 3}` }, agoMs: 30_000 + i * 7 * MINUTE_MS },
  }));
  await storePoints(rolled, points);
  const paths = ["readme", "code"].flatMap((compat) =>
    ["mean", "max", "last", "count", "first", "median"].flatMap((verb) => [
      `/hourly/m?verb=${verb}&compat=${compat}`,
      `/daily/m?verb=${verb}&compat=${compat}&host=h1&host=h2`,
    ]),
  );
  const answers = async () => {
    const found: unknown[] = [];
    // One by one: on a slow machine more than a few at once are refused.
    for (const path of paths) found.push(await fresh.json(path));
    return found;
  };
  const raw = await answers();
  const origin = { epoch: "test", topic: POINTS_TOPIC, partition: 0 };
  const toMs = slotOf(NOW_MS);
  await computeSlots(rolled, { ...origin, fromMs: slotOf(NOW_MS - 2 * DAY_MS), toMs });
  await noteNextSlot(rolled, origin, toMs, toMs);
  await rolled.command(`DELETE FROM points WHERE log_time < fromUnixTimestamp64Milli(${toMs})`);
  expect(await answers()).toEqual(raw);
});
