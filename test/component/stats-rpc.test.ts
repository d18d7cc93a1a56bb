// StatsService over each protocol: queries of a real ClickHouse, and what callers are told when they fail.

import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { AlertService } from "#gen/millrace/stats/v1/alerts_pb.ts";
import { Aggregation, type QuerySeriesRequest } from "#gen/millrace/stats/v1/stats_pb.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { StatsQueryError } from "../../services/stats/queries/errors.ts";
import { createStatsQueries, type StatsQueries } from "../../services/stats/queries/queries.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callH1, connectH2 } from "../kit/http-calls.ts";
import { clientOf, memoryLog, type Protocol, startTestStats, type TestStats, TOKEN } from "../kit/stats-live.ts";

const PATH = "/millrace.stats.v1.StatsService";
const MINUTE_MS = 60_000;
/** Ten to twenty minutes ago and aligned to ten: the points of the tests are in the ten minutes from here. */
const BEGIN_MS = Math.floor(Date.now() / 600_000) * 600_000 - 600_000;

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let queries: StatsQueries;
let log: OpenLog;
let stats: TestStats;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("stats");
  warehouse = clickhouse.warehouse("stats");
  // One point a minute and host from 0 to 9: host a has 0, 1, … 9, host b has 100, 101, … 109.
  await warehouse.command(
    `INSERT INTO points (uuid, metric, value, tags, time, inserted_at, relay_id, log_epoch, log_topic, log_partition, log_offset, log_time)
     SELECT generateUUIDv4(), 'cpu', number % 10 + 100 * intDiv(number, 10),
       map('host', if(number < 10, 'a', 'b'), 'zone', 'z'), fromUnixTimestamp64Milli({begin:Int64} + (number % 10) * 60000) AS t,
       t, 'r', 'e', 'millrace.points', 0, number, now64(3)
     FROM numbers(20)`,
    { params: { begin: BEGIN_MS } },
  );
  await warehouse.command(
    `INSERT INTO points (uuid, metric, value, tags, time, inserted_at, relay_id, log_epoch, log_topic, log_partition, log_offset, log_time)
     SELECT generateUUIDv4(), 'ram', number, map('host', toString(number)), now64(6), now64(6), 'r', 'e', 'millrace.points', 0,
       100 + number, now64(3) FROM numbers(3)`,
  );
  queries = createStatsQueries({
    warehouse,
    maxConcurrent: 2,
    pollMs: 60_000,
    flushMs: 1_000,
    pointsKeptMs: 8 * 3_600_000,
  });
  log = await memoryLog();
  stats = await startTestStats({ log, queries });
});
afterAll(async () => {
  await stats[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

function failureOf(work: Promise<unknown>): Promise<ConnectError> {
  return work.then(
    () => Promise.reject(new Error("the call succeeded")),
    (error: unknown) => ConnectError.from(error),
  );
}

const whole = { from: timestampFromMs(BEGIN_MS), to: timestampFromMs(BEGIN_MS + 10 * MINUTE_MS) };
const times = (windows: readonly { time?: QuerySeriesRequest["from"] }[]) =>
  windows.map(({ time }) => (timestampMs(time as never) - BEGIN_MS) / MINUTE_MS);

describe.each([
  ["connect", "1.1"],
  ["connect", "2"],
  ["grpc", "2"],
  ["grpc-web", "1.1"],
] as [Protocol, "1.1" | "2"][])("StatsService over %s, HTTP/%s", (protocol, httpVersion) => {
  it("lists metrics, tags and values of tags, of points that pass the filters", async () => {
    const client = clientOf(stats, protocol, httpVersion);
    const zone = { tag: "zone", values: ["z", "y"] };
    expect((await client.listMetrics({})).metrics).toEqual(["cpu", "ram"]);
    expect((await client.listMetrics({ filters: [zone] })).metrics).toEqual(["cpu"]);
    expect((await client.listTags({})).tags).toEqual(["host", "zone"]);
    expect((await client.listTags({ metric: "ram" })).tags).toEqual(["host"]);
    expect((await client.listTagValues({ tag: "host" })).values).toEqual(["0", "1", "2", "a", "b"]);
    expect((await client.listTagValues({ tag: "host", metric: "cpu", filters: [zone] })).values).toEqual(["a", "b"]);
  });

  it("answers series by tag, with aggregations and quantiles in the order asked for", async () => {
    const { series } = await clientOf(stats, protocol, httpVersion).querySeries({
      ...{ metric: "cpu", groupBy: ["host"], ...whole, interval: { seconds: 300n } },
      aggregations: [Aggregation.MAX, Aggregation.MIN, Aggregation.MEAN, Aggregation.COUNT, Aggregation.SUM],
      quantiles: [0.5],
    });
    expect(series.map(({ tags }) => tags)).toEqual([{ host: "a" }, { host: "b" }]);
    expect(series.map(({ windows }) => times(windows))).toEqual([
      [0, 5],
      [0, 5],
    ]);
    expect(series[1]?.windows.map(({ values }) => values)).toEqual([
      [104, 100, 102, 5, 510, 102],
      [109, 105, 107, 5, 535, 107],
    ]);
  });
});

describe("QuerySeries", () => {
  it("takes alternatives of a tag, all tags together, absent tags, and any interval", async () => {
    const client = clientOf(stats);
    const ask = async (filters: { tag: string; values: string[] }[]) => {
      const { series } = await client.querySeries({
        ...{ metric: "cpu", filters, ...whole, interval: { seconds: 120n } },
        aggregations: [Aggregation.FIRST, Aggregation.LAST],
      });
      return series.map(({ windows }) => windows.map(({ values }) => values));
    };
    const ofA = [0, 2, 4, 6, 8].map((n) => [n, n + 1]);
    expect(await ask([{ tag: "host", values: ["a"] }])).toEqual([ofA]);
    expect(await ask([{ tag: "host", values: ["a", "nobody"] }])).toEqual([ofA]);
    expect(
      await ask([
        { tag: "host", values: ["nobody"] },
        { tag: "host", values: ["a"] },
      ]),
    ).toEqual([ofA]);
    expect(
      await ask([
        { tag: "host", values: ["a"] },
        { tag: "zone", values: ["y"] },
      ]),
    ).toEqual([]);
    expect(
      await ask([
        { tag: "rack", values: [""] },
        { tag: "host", values: ["a"] },
      ]),
    ).toEqual([ofA]);
    expect(await ask([{ tag: "host", values: ["' OR 1 = 1 --", "\\'"] }])).toEqual([]);
    expect(await ask([{ tag: "__proto__", values: ["x"] }])).toEqual([]);
  });

  it("has the bounds, the interval and the mean that it says when nothing is asked for", async () => {
    const { series } = await clientOf(stats).querySeries({ metric: "cpu" });
    const [one] = series;
    expect(one?.tags).toEqual({});
    expect(times(one?.windows ?? [])).toEqual([0, 5]);
    expect(one?.windows.map(({ values }) => values)).toEqual([[52], [57]]);
    const { series: none } = await clientOf(stats).querySeries({
      ...{ metric: "cpu", from: timestampFromMs(BEGIN_MS + 1), to: timestampFromMs(BEGIN_MS + MINUTE_MS) },
      ...{ interval: { seconds: 60n } },
    });
    expect(none).toEqual([]);
  });

  it("says NaN where there is no value, and that a metric nobody knows has no series", async () => {
    const client = clientOf(stats);
    const { series } = await client.querySeries({
      ...{ metric: "cpu", filters: [{ tag: "host", values: ["a"] }], ...whole, interval: { seconds: 60n } },
      aggregations: [Aggregation.STDDEV],
    });
    expect(series[0]?.windows[0]?.values).toEqual([Number.NaN]);
    expect((await client.querySeries({ metric: "unknown" })).series).toEqual([]);
    expect((await client.getLatest({ metric: "unknown" })).results).toEqual([]);
  });
});

describe("GetLatest", () => {
  it("has a result for each group", async () => {
    const { results } = await clientOf(stats).getLatest({
      ...{ metric: "ram", groupBy: ["host"], aggregations: [Aggregation.LAST], quantiles: [0, 1] },
    });
    const byHost = results.toSorted((a, b) => (`${a.tags.host}` < `${b.tags.host}` ? -1 : 1));
    expect(byHost.map(({ tags, values }) => [tags.host, values])).toEqual([0, 1, 2].map((n) => [`${n}`, [n, n, n]]));
  });
});

describe("a wrong request", () => {
  const hourAgo = timestampFromMs(Date.now() - 3_600_000);
  it.each([
    ["metric: ", {}],
    ["filters[0].tag: ", { metric: "cpu", filters: [{ tag: "", values: ["a"] }] }],
    ["filters[1].values: ", { metric: "cpu", filters: [{ tag: "h", values: ["a"] }, { tag: "i" }] }],
    ["group_by[1]: ", { metric: "cpu", groupBy: ["host", "host"] }],
    ["group_by: ", { metric: "cpu", groupBy: Array.from({ length: 11 }, String) }],
    ["aggregations[0]: ", { metric: "cpu", aggregations: [Aggregation.UNSPECIFIED] }],
    ["aggregations[1]: ", { metric: "cpu", aggregations: [Aggregation.MEAN, 99] }],
    ["quantiles[0]: ", { metric: "cpu", quantiles: [1.5] }],
    ["quantiles[0]: ", { metric: "cpu", quantiles: [Number.NaN] }],
    ["filters: ", { metric: "cpu", filters: Array.from({ length: 101 }, (_, i) => ({ tag: `${i}`, values: ["x"] })) }],
    ["aggregations: ", { metric: "cpu", quantiles: Array.from({ length: 33 }, () => 0.5) }],
    ["from: ", { metric: "cpu", from: { seconds: -1n, nanos: 0 } }],
    ["to: ", { metric: "cpu", to: { seconds: 253_402_300_799n, nanos: 0 } }],
    ["from: ", { metric: "cpu", from: hourAgo, to: hourAgo }],
    ["interval: ", { metric: "cpu", interval: { seconds: 0n, nanos: 0 } }],
    ["interval: ", { metric: "cpu", interval: { seconds: -60n, nanos: 0 } }],
    ["interval: ", { metric: "cpu", interval: { seconds: 1n, nanos: 1 } }],
    ["single points are kept", { metric: "cpu", from: timestampFromMs(0), interval: { seconds: 60n } }],
  ])("is refused with %s and what would do instead", async (field, request) => {
    const error = await failureOf(clientOf(stats).querySeries(request as never));
    expect([error.code, error.rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining(field)]);
  });

  it("in JSON is refused with the name of the unknown field", async () => {
    const answer = await callH1(stats.port, `${PATH}/ListTags`, {
      headers: { "content-type": "application/json", "x-auth-token": TOKEN },
      body: '{"metrik":"cpu"}',
    });
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("metrik")]);
  });
});

describe("callers", () => {
  it("come in with the token as bearer or as x-auth-token, and by GET too; strangers do not", async () => {
    const query = "?encoding=json&connect=v1&message=%7B%7D";
    const ask = (headers: Record<string, string>) =>
      callH1(stats.port, `${PATH}/ListMetrics${query}`, { method: "GET", headers });
    for (const headers of [{ authorization: `Bearer ${TOKEN}` }, { "x-auth-token": TOKEN }] as Record<
      string,
      string
    >[]) {
      const answer = await ask(headers);
      expect([answer.status, JSON.parse(answer.text)]).toEqual([200, { metrics: ["cpu", "ram"] }]);
    }
    expect((await ask({})).status).toBe(401);
    expect((await ask({ authorization: "Bearer x" })).status).toBe(401);
    expect((await failureOf(clientOf(stats, "grpc", "2", "x").listTags({}))).code).toBe(Code.Unauthenticated);
  });

  it("in browsers are told what they may send, without a token", async () => {
    using h2 = connectH2(stats.port);
    for (const answer of [
      await callH1(stats.port, `${PATH}/QuerySeries`, { method: "OPTIONS" }),
      await h2.call(`${PATH}/QuerySeries`, { method: "OPTIONS" }),
    ]) {
      expect(answer.status).toBe(204);
      expect(answer.headers["access-control-allow-origin"]).toBe("*");
      expect(answer.headers["access-control-allow-headers"]).toMatch(
        /connect-protocol-version.*authorization.*x-auth-token/,
      );
    }
  });

  it("from foreign web pages may read but change nothing where no token is required", async () => {
    const registerOthers: Parameters<typeof startTestStats>[0]["registerOthers"] = (router) =>
      router
        .service(Health, { check: () => ({ status: HealthCheckResponse_ServingStatus.SERVING }) })
        .service(AlertService, { listAlerts: () => ({}) });
    const call = async (corsAllow: string, path: string, origin?: string) => {
      await using open = await startTestStats({ log, queries, token: null, corsAllow, registerOthers });
      const headers = { "content-type": "application/json", ...(origin ? { origin } : {}) };
      return (await callH1(open.port, path, { headers, body: "{}" })).status;
    };
    // Declared to have no side effects, and not declared so.
    const [reading, changing] = [`${PATH}/ListMetrics`, "/grpc.health.v1.Health/Check"];
    expect(await call("*", reading, "http://evil.example")).toBe(200);
    expect(await call("*", changing, "http://evil.example")).toBe(403);
    expect(await call("http://good.example", changing, "http://good.example")).toBe(200);
    expect(await call("*", changing)).toBe(200);
    // Alerts are read, and hold addresses that are secret.
    const alerts = `/${AlertService.typeName}/ListAlerts`;
    expect(await call("*", alerts, "http://evil.example")).toBe(403);
    expect(await call("*", alerts)).toBe(200);
  });
});

describe("a slow or absent ClickHouse", () => {
  const slow = "SELECT sum(sleepEachRow(0.2)) FROM numbers(100) SETTINGS max_block_size = 1";
  const running = async () => {
    const sql =
      "SELECT toUInt32(count()) AS n FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%processes%'";
    const [row] = await warehouse.query<{ n: number }>(sql);
    return row?.n;
  };

  it("stops the query when the caller leaves and at its deadline", async () => {
    const begun: string[] = [];
    const sleeping: StatsQueries = {
      ...queries,
      series({ metric, signal }) {
        begun.push(metric);
        return warehouse.query(slow, { signal });
      },
    };
    await using sleepy = await startTestStats({ log, queries: sleeping });
    const leaving = new AbortController();
    const left = failureOf(clientOf(sleepy).querySeries({ metric: "left" }, { signal: leaving.signal }));
    await expect.poll(running, { timeout: 5_000 }).toBe(1);
    leaving.abort();
    expect((await left).code).toBe(Code.Canceled);
    await expect.poll(running, { timeout: 5_000 }).toBe(0);
    const late = await failureOf(clientOf(sleepy, "grpc").querySeries({ metric: "late" }, { timeoutMs: 300 }));
    expect(late.code).toBe(Code.DeadlineExceeded);
    await expect.poll(running, { timeout: 5_000 }).toBe(0);
    expect(begun).toEqual(["left", "late"]);
    const raw = await callH1(sleepy.port, `${PATH}/QuerySeries`, {
      headers: { "content-type": "application/json", "x-auth-token": TOKEN, "connect-timeout-ms": "200" },
      body: '{"metric":"raw"}',
    });
    expect([raw.status, JSON.parse(raw.text).code]).toEqual([504, "deadline_exceeded"]);
  });

  it("is unavailable with a time to retry, and not with the reason", async () => {
    const dead = createClickHouseWarehouse({ url: "http://127.0.0.1:1", user: "default", password: "", database: "x" });
    const broken = createStatsQueries({
      warehouse: dead,
      maxConcurrent: 2,
      pollMs: 60_000,
      flushMs: 1_000,
      pointsKeptMs: undefined,
    });
    await using away = await startTestStats({ log, queries: broken });
    const error = await failureOf(clientOf(away).listMetrics({}));
    await dead[Symbol.asyncDispose]();
    expect([error.code, error.metadata.get("retry-after")]).toEqual([Code.Unavailable, "1"]);
    expect(error.rawMessage).toBe("ClickHouse cannot be asked now");
  });

  it("is waited for within the deadline, however far away that is", async () => {
    const call = (headers: Record<string, string>) =>
      callH1(stats.port, `${PATH}/ListMetrics`, {
        headers: { "content-type": "application/json", "x-auth-token": TOKEN, ...headers },
        body: "{}",
      });
    expect((await call({ "connect-timeout-ms": "9999999999" })).status).toBe(200);
    expect((await call({ "connect-timeout-ms": "60000" })).status).toBe(200);
    expect((await call({ "connect-timeout-ms": "soon" })).status).toBe(400);
    const headers = { "grpc-timeout": "99999999H" };
    expect((await clientOf(stats, "grpc").listMetrics({}, { headers })).metrics).toEqual(["cpu", "ram"]);
  });

  it.each([
    ["too_much", Code.ResourceExhausted, null],
    ["busy", Code.ResourceExhausted, "1"],
    ["unavailable", Code.Unavailable, "1"],
  ] as const)(
    "that is %s is reported as such, with a time to retry where that helps",
    async (kind, code, retryAfter) => {
      const failing: StatsQueries = {
        ...queries,
        metrics: () => Promise.reject(new StatsQueryError(kind, "the reason")),
      };
      await using limited = await startTestStats({ log, queries: failing });
      const error = await failureOf(clientOf(limited, "grpc").listMetrics({}));
      expect([error.code, error.rawMessage, error.metadata.get("retry-after")]).toEqual([
        code,
        "the reason",
        retryAfter,
      ]);
    },
  );
});
