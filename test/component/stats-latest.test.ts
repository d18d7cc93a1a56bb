// GET /latest/{stat} (sections 1.3 and 1.4) in the README's form and the code's.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { NOW_MS, startTestStats, storePoints, type TestStats } from "../kit/stats.ts";

/** NOW_MS is half a minute into a window. */
const WINDOW_MS = Date.UTC(2026, 8, 20, 12, 7);

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let stats: TestStats;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("latest");
  warehouse = clickhouse.warehouse("latest");
  await storePoints(warehouse, [
    // In the newest window, of several hosts.
    { metric: "cpu", value: 1, tags: { host: "a", dc: "eu" }, agoMs: 5_250 },
    { metric: "cpu", value: 2, tags: { host: "a", dc: "eu" }, agoMs: 6_000 },
    { metric: "cpu", value: 6, tags: { host: "b", dc: "us" }, agoMs: 7_000 },
    { metric: "cpu", value: 11, tags: { dc: "us" }, agoMs: 8_000 },
    // In the one before.
    { metric: "cpu", value: 100, tags: { host: "c" }, agoMs: 40_000 },
    { metric: "old", value: 1, agoMs: 110_000 },
    // Out of the last two polls, or just so.
    { metric: "older", value: 1, agoMs: 121_000 },
    { metric: "edge", value: 1, agoMs: 120_000 },
    { metric: "future", value: 1, agoMs: -86_400_000 },
    { metric: "twice", value: 1, tags: { host: "a" }, agoMs: 2_000 },
    { metric: "twice", value: 2, tags: { host: "a" }, agoMs: 1_000 },
  ]);
  stats = await startTestStats(warehouse);
});
afterAll(async () => {
  await stats?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

const valueAt = async (path: string) => (await stats.json<{ value: number }>(path)).value;

describe("with a verb", () => {
  it("is one object: the newest window of a poll, its begin in seconds, in milliseconds under compat=code", async () => {
    expect((await stats.get("/latest/cpu")).text).toBe(`{"time":${WINDOW_MS / 1000},"value":5}\n`);
    expect((await stats.get("/latest/cpu?compat=code")).text).toBe(`{"time":${WINDOW_MS},"value":5}\n`);
  });

  it("answers in the form of PULSE_COMPAT, and in the other when a request says so", async () => {
    await using code = await startTestStats(warehouse, { pulseCompat: "code" });
    expect(await code.json("/latest/cpu")).toEqual({ time: WINDOW_MS, value: 5 });
    expect(await code.json("/latest/cpu?compat=readme")).toEqual({ time: WINDOW_MS / 1000, value: 5 });
    expect((await code.get("/latest/cpu?compat=other")).status, "any other is a filter").toBe(404);
  });

  it.each([
    ["mean", 5],
    ["median", 4],
    ["min", 1],
    ["max", 11],
    ["sum", 20],
    ["count", 4],
    ["first", 11],
    ["last", 1],
    ["spread", 10],
    ["MAX", 11],
    ["", 5],
  ])("verb=%s is %d", async (verb, value) => expect(await valueAt(`/latest/cpu?verb=${verb}`)).toBe(value));

  it("knows mode and the sample's deviation, which a single value has none of", async () => {
    expect(await valueAt("/latest/cpu?verb=stddev")).toBeCloseTo(4.5461, 4);
    expect(await valueAt("/latest/twice?verb=mode")).toBe(1);
    expect((await stats.get("/latest/old?verb=stddev")).status).toBe(404);
  });

  it("takes the first verb of several, and has no use for start, stop and backfill", async () => {
    expect(await valueAt("/latest/cpu?verb=max&verb=min&start=x&stop=y&backfill=NaN")).toBe(11);
  });

  it("looks back two polls and no further, whatever lies in the future (pitfall 4)", async () => {
    expect(await valueAt("/latest/old")).toBe(1);
    for (const metric of ["older", "edge", "future", "none"]) {
      expect(await stats.get(`/latest/${metric}`)).toMatchObject({ status: 404, text: '{"error":"Not Found"}\n' });
    }
  });

  it("looks back as long as a point takes to arrive when polls are shorter than that", async () => {
    await using fast = await startTestStats(warehouse, { pollInterval: 1_000, flushInterval: 3_000 });
    expect(await fast.json("/latest/cpu?host=a")).toEqual({ time: Math.floor((NOW_MS - 5_250) / 1000), value: 1 });
    expect((await fast.get("/latest/cpu?host=b")).status).toBe(404);
  });
});

describe("filters", () => {
  it.each([
    ["host=a", 1.5],
    ["host=a&host=b", 3],
    ["host=a&host=b&dc=us", 6],
    ["host=", 11],
    ["host=&host=b", 8.5],
    ["dc=eu&dc=us", 5],
    ["host=a&verb=mean&x-auth-token=no&X-AUTH-TOKEN=no&:stat=cpu", 1.5],
  ])(
    "%s: repetitions are alternatives, names add up, and all that matches is merged (pitfall 5)",
    async (query, value) => expect(await valueAt(`/latest/cpu?${query}`)).toBe(value),
  );

  it.each(["host=z", "rack=1", "host=a&dc=us", "host=A", "X-Auth-Token=no", "HOST=a"])(
    "%s matches nothing: 404 (pitfall 2)",
    async (query) => expect((await stats.get(`/latest/cpu?${query}`)).status).toBe(404),
  );
});

describe("verb=none", () => {
  const second = (agoMs: number) => Math.floor((NOW_MS - agoMs) / 1000);

  it("is the newest point, its time cut to the second, without tags", async () => {
    expect((await stats.get("/latest/cpu?verb=none")).text).toBe(`{"time":${second(5_250)},"value":1}\n`);
    expect(await stats.json("/latest/cpu?verb=none&compat=code")).toEqual({ time: second(5_250) * 1000, value: 1 });
    expect(await stats.json("/latest/cpu?verb=none&host=b")).toEqual({ time: second(7_000), value: 6 });
  });

  it("with a repeated filter is as many points as it has values, with that tag, keys in order", async () => {
    expect((await stats.get("/latest/cpu?verb=none&host=a&host=b&host=c")).text).toBe(
      `[{"host":"a","time":${second(5_250)},"value":1},{"host":"a","time":${second(6_000)},"value":2},{"host":"b","time":${second(7_000)},"value":6}]\n`,
    );
  });

  it("has the tags of all repeated filters, and not of those given once", async () => {
    expect(await stats.json("/latest/cpu?verb=none&host=b&host=&dc=us&dc=eu")).toEqual([
      { dc: "us", host: "b", time: second(7_000), value: 6 },
      { dc: "us", host: "", time: second(8_000), value: 11 },
    ]);
    expect(await stats.json("/latest/twice?verb=none&host=a&host=b")).toEqual([
      { host: "a", time: second(1_000), value: 2 },
      { host: "a", time: second(2_000), value: 1 },
    ]);
  });

  it("of one point is an object all the same (pitfall 5), of none a 404", async () => {
    expect(await stats.json("/latest/old?verb=none&host=&host=x")).toEqual({ time: second(110_000), value: 1 });
    expect((await stats.get("/latest/cpu?verb=none&host=z&host=y")).status).toBe(404);
  });
});

it("values of events count as points, tagged with their source", async () => {
  const at = new Date(NOW_MS - 1_000).toISOString();
  const row = [
    "11111111-1111-4111-8111-111111111111",
    "order_paid",
    49.9,
    "web",
    at,
    at,
    "e",
    "millrace.events",
    0,
    0,
    at,
  ];
  await warehouse.insert({
    table: "events_raw",
    columns: [
      ...["uuid", "event", "value", "source", "timestamp", "inserted_at", "log_epoch", "log_topic"],
      ...["log_partition", "log_offset", "log_time"],
    ],
    rows: Buffer.from(`${JSON.stringify(row)}\n`),
    token: "an event",
  });
  expect(await valueAt("/latest/order_paid?source=web")).toBe(49.9);
  expect((await stats.get("/keys")).text).toContain('"order_paid"');
});
