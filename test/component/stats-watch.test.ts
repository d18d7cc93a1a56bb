// Live values by RPC: Watch over each protocol, out of a real log in SQLite.
import { Code } from "@connectrpc/connect";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PointOrigin, WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import { type LogReader, LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { eventRecord, poisonRecord } from "../kit/consumer.ts";
import { getWatch } from "../kit/event-source.ts";
import { pointRecord } from "../kit/points.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";
import {
  appendPoints,
  clientOf,
  memoryLog,
  type Protocol,
  startTestStats,
  type TestStats,
  type Watching,
  watching,
} from "../kit/stats-live.ts";

let log: OpenLog;
let stats: TestStats;
let open: Disposable[] = [];
beforeEach(async () => {
  log = await memoryLog();
  stats = await startTestStats({ log });
});
afterEach(async () => {
  for (const one of open) one[Symbol.dispose]();
  open = [];
  await stats[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
});

type WatchInit = Parameters<ReturnType<typeof clientOf>["watch"]>[0];

function watch(request: WatchInit = {}, client = clientOf(stats)): Watching {
  const one = watching((signal) => client.watch(request, { signal }));
  open.push(one);
  return one;
}

async function live(...all: Watching[]): Promise<void> {
  await expect.poll(() => all.every(({ isLive }) => isLive), { timeout: 5_000 }).toBe(true);
}

const cpu = (value: number, host = "a") => pointRecord({ metric: "cpu", value, tags: { host } });

describe.each([
  ["connect", "1.1"],
  ["connect", "2"],
  ["grpc", "2"],
  ["grpc-web", "1.1"],
  ["grpc-web", "2"],
] as [Protocol, "1.1" | "2"][])("Watch over %s, HTTP/%s", (protocol, httpVersion) => {
  it("shows points as they are appended, within a second, and nothing from before", async () => {
    await appendPoints(log, cpu(1));
    const one = watch({}, clientOf(stats, protocol, httpVersion));
    await live(one);
    const timeUs = 1_790_000_000_123_456;
    await appendPoints(log, pointRecord({ metric: "ram", value: 2.5, tags: { host: "a", zone: "z" }, timeUs }));
    await expect.poll(() => one.points, { timeout: 1_000, interval: 10 }).toEqual(["ram=2.5"]);
    expect(one.messages[0]?.status).toBeDefined();
    expect(one.messages.at(-1)?.points[0]).toMatchObject({
      id: "relay-0-1",
      tags: { host: "a", zone: "z" },
      time: { seconds: 1_790_000_000n, nanos: 123_456_000 },
      origin: PointOrigin.RELAY,
    });
  });

  it("ends when the caller leaves, at its deadline, and when the service stops", async () => {
    const client = clientOf(stats, protocol, httpVersion);
    const [leaving, staying] = [watch({}, client), watch({}, client)];
    const hurried = watching((signal) => client.watch({}, { signal, timeoutMs: 200 }));
    await live(leaving, staying);
    leaving[Symbol.dispose]();
    expect((await hurried.ended)?.code).toBe(Code.DeadlineExceeded);
    await expect.poll(() => stats.live.watchers).toBe(1);
    await stats.stop();
    expect((await staying.ended)?.code).toBe(Code.Unavailable);
    expect(stats.live.watchers).toBe(0);
  });
});

describe("a watcher", () => {
  it("sees the metrics, tags and origins it asked for", async () => {
    const [all, metric, tagged, untagged, relays, events] = [
      watch(),
      watch({ metrics: ["cpu", "sale"] }),
      watch({
        filters: [
          { tag: "host", values: ["a"] },
          { tag: "host", values: ["b"] },
          { tag: "zone", values: ["1"] },
        ],
      }),
      watch({ filters: [{ tag: "host", values: [""] }] }),
      watch({ origins: [PointOrigin.RELAY] }),
      watch({ origins: [PointOrigin.EVENT] }),
    ] as const;
    await live(all, metric, tagged, untagged, relays, events);
    const records = [
      pointRecord({ metric: "cpu", value: 1, tags: { host: "a", zone: "1" } }),
      pointRecord({ metric: "ram", value: 2, tags: { host: "b", zone: "1" } }),
      pointRecord({ metric: "ram", value: 3, tags: { host: "c", zone: "1" } }),
      pointRecord({ metric: "cpu", value: 4, tags: { host: "a", zone: "2" } }),
    ];
    await appendPoints(log, ...records);
    await log.append(EVENTS_TOPIC, [
      eventRecord({ event: "sale", value: 9.5, source: "shop" }),
      eventRecord({ event: "click", value: undefined }),
    ]);
    await expect.poll(() => all.points.toSorted()).toEqual(["cpu=1", "cpu=4", "ram=2", "ram=3", "sale=9.5"]);
    await expect.poll(() => metric.points.toSorted()).toEqual(["cpu=1", "cpu=4", "sale=9.5"]);
    await expect.poll(() => tagged.points).toEqual(["cpu=1", "ram=2"]);
    await expect.poll(() => untagged.points).toEqual(["sale=9.5"]);
    await expect.poll(() => relays.points).toEqual(["cpu=1", "ram=2", "ram=3", "cpu=4"]);
    await expect.poll(() => events.points).toEqual(["sale=9.5"]);
    const [sale] = events.messages.flatMap(({ points }) => points);
    expect(sale).toMatchObject({ tags: { source: "shop" }, origin: PointOrigin.EVENT });
  });

  it("is told by name what is wrong with its request", async () => {
    for (const [request, field] of [
      [{ filters: [{ tag: "", values: ["a"] }] }, "filters[0].tag: "],
      [{ filters: [{ tag: "host", values: [] }] }, "filters[0].values: "],
      [{ metrics: ["cpu", ""] }, "metrics[1]: "],
      [{ metrics: Array.from({ length: 101 }, (_, i) => `m${i}`) }, "metrics: "],
      [{ origins: [PointOrigin.UNSPECIFIED] }, "origins[0]: "],
      [{ filters: [{ tag: "h", values: Array.from({ length: 1001 }, String) }] }, "filters: "],
    ] as [WatchInit, string][]) {
      const error = await watch(request).ended;
      expect([error?.code, error?.rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining(field)]);
    }
  });

  it("without the token is refused, and takes no place", async () => {
    const stranger = clientOf(stats, "connect", "1.1", "wrong");
    const error = await watching((signal) => stranger.watch({}, { signal })).ended;
    expect(error?.code).toBe(Code.Unauthenticated);
    expect(stats.live.watchers).toBe(0);
  });

  it("hears of records that nobody can be shown, and sees what comes after them", async () => {
    const one = watch();
    await live(one);
    await appendPoints(log, cpu(1), poisonRecord, poisonRecord, cpu(2));
    await expect.poll(() => one.points).toEqual(["cpu=1", "cpu=2"]);
    await expect.poll(() => one.last?.skippedRecords).toBe(2n);
    expect(await stats.metric("millrace_stats_watch_skipped_records_total")).toBe(2);
  });

  it("gets a sign of life while nothing happens", async () => {
    await using quick = await startTestStats({ log, heartbeatMs: 50 });
    const one = watch({}, clientOf(quick));
    await live(one);
    const before = one.messages.length;
    await expect.poll(() => one.messages.length, { timeout: 5_000 }).toBeGreaterThan(before + 3);
  });

  it("beyond the limit is refused with a time to retry, and let in when a place is free", async () => {
    await using small = await startTestStats({ log, maxWatchers: 1 });
    const first = watch({}, clientOf(small));
    await live(first);
    const error = await watch({}, clientOf(small)).ended;
    expect([error?.code, error?.metadata.get("retry-after")]).toEqual([Code.ResourceExhausted, "1"]);
    expect((await getWatch(small.port)).status).toBe(503);
    first[Symbol.dispose]();
    await expect.poll(() => small.live.watchers).toBe(0);
    await live(watch({}, clientOf(small)));
  });
});

describe("watchers together", () => {
  it("a hundred of them share one reader of the log, each sees every point, and leaving they free everything", async () => {
    let looks = 0;
    const counted: LogReader = {
      ...log,
      bounds: (topic) => {
        looks++;
        return log.bounds(topic);
      },
    };
    await using busy = await startTestStats({ log: counted });
    const client = clientOf(busy, "grpc");
    const all = Array.from({ length: 100 }, () => watch({ origins: [PointOrigin.RELAY] }, client));
    await live(...all);
    expect([busy.live.watchers, busy.live.tails]).toEqual([100, 1]);
    const [looksBefore, begun] = [looks, performance.now()];
    await appendPoints(log, ...Array.from({ length: 50 }, (_, i) => cpu(i)));
    const expected = Array.from({ length: 50 }, (_, i) => `cpu=${i}`);
    await expect.poll(() => all.every(({ points }) => points.length === 50), { timeout: 5_000 }).toBe(true);
    for (const { points } of all) expect(points).toEqual(expected);
    // One look each 150 ms, however many watch.
    expect(looks - looksBefore).toBeLessThan(2 + (performance.now() - begun) / 100);

    for (const one of all) one[Symbol.dispose]();
    await expect.poll(() => [busy.live.watchers, busy.live.tails, busy.stopListeners]).toEqual([0, 0, 0]);
    expect(await busy.metric("millrace_stats_watchers")).toBe(0);
    const after = looks;
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(looks).toBe(after);
  });
});

describe("a log with bad days", () => {
  const scripted = () => createScriptedLog({ partitions: 3, wait: () => Promise.resolve() });

  it("interrupts the stream, which says so and goes on where it was", async () => {
    const inner = scripted();
    await inner.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 3 })));
    let away = false;
    const flaky: LogReader = {
      ...inner,
      async bounds(topic) {
        if (away) throw new LogUnavailableError("the broker is away: start it");
        return inner.bounds(topic);
      },
    };
    await using shaky = await startTestStats({ log: flaky });
    const one = watch({}, clientOf(shaky));
    await live(one);
    away = true;
    await expect.poll(() => one.last?.state).toBe(WatchState.INTERRUPTED);
    expect(one.last?.reason).toBe("the broker is away: start it");
    const late = watch({}, clientOf(shaky));
    await expect.poll(() => late.last?.state).toBe(WatchState.INTERRUPTED);
    await inner.append(POINTS_TOPIC, [cpu(1), cpu(2)]);
    away = false;
    await expect.poll(() => one.points, { timeout: 5_000 }).toEqual(["cpu=1", "cpu=2"]);
    await live(one, late);
  });

  it("that fails as no log should ends the watch, is logged, and does not stay in the way", async () => {
    const lines: string[] = [];
    const logger = pino({}, { write: (line: string) => lines.push(line) });
    let bug: Error | undefined = new TypeError("a bug with secrets");
    const broken: LogReader = {
      ...log,
      bounds: (topic) => (bug ? Promise.reject(bug) : log.bounds(topic)),
    };
    await using failing = await startTestStats({ log: broken, logger });
    const error = await watch({}, clientOf(failing)).ended;
    expect([error?.code, error?.rawMessage]).toEqual([Code.Internal, "internal error"]);
    expect(lines.join("")).toContain("a bug with secrets");
    expect([failing.live.watchers, failing.live.tails]).toEqual([0, 0]);
    bug = undefined;
    await live(watch({}, clientOf(failing)));
  });

  it("that was wiped is followed from its new end, and the watchers are told", async () => {
    const inner = scripted();
    await inner.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 3 })));
    await inner.append(POINTS_TOPIC, [cpu(1), cpu(2), cpu(3)]);
    await using reset = await startTestStats({ log: inner });
    const one = watch({}, clientOf(reset));
    await live(one);
    inner.wipe(POINTS_TOPIC);
    await expect.poll(() => one.last?.resets).toBe(1);
    await inner.append(POINTS_TOPIC, [cpu(4)]);
    await expect.poll(() => one.points).toEqual(["cpu=4"]);
  });

  it("that runs ahead by more than is worth showing is taken up at its end, and what was left out is counted", async () => {
    const inner = scripted();
    await inner.createTopics([EVENTS_TOPIC, POINTS_TOPIC].map((topic) => ({ topic, partitions: 3 })));
    await using behind = await startTestStats({ log: inner });
    const one = watch({ metrics: ["cpu"] }, clientOf(behind));
    await live(one);
    await inner.append(
      POINTS_TOPIC,
      Array.from({ length: 60_000 }, () => pointRecord({ metric: "noise" })),
    );
    await expect.poll(() => one.last?.skippedRecords).toBe(60_000n);
    await inner.append(POINTS_TOPIC, [cpu(5)]);
    await expect.poll(() => one.points).toEqual(["cpu=5"]);
  });
});
