// GET /watch, and watchers of either face that are slow or read nothing, out of a real log in SQLite.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { getWatch, stalledWatch } from "../kit/event-source.ts";
import { callH1, envelope } from "../kit/http-calls.ts";
import { pointRecord } from "../kit/points.ts";
import { appendPoints, memoryLog, startTestStats, type TestStats, TOKEN } from "../kit/stats-live.ts";

let log: OpenLog;
let stats: TestStats;
beforeEach(async () => {
  log = await memoryLog();
  stats = await startTestStats({ log });
});
afterEach(async () => {
  await stats[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
});

const cpu = (value: number, host = "a") => pointRecord({ metric: "cpu", value, tags: { host } });

describe("GET /watch", () => {
  it("shows points to an EventSource, with ids, a time to reconnect, the state and the token in the query", async () => {
    const path = `/watch?metric=cpu&host=a&host=b&X-AUTH-TOKEN=${encodeURIComponent(TOKEN)}`;
    await using source = await getWatch(stats.port, path, {});
    expect([source.status, source.headers["content-type"], source.headers["access-control-allow-origin"]]).toEqual([
      200,
      "text/event-stream; charset=utf-8",
      "*",
    ]);
    await expect.poll(() => source.statuses().at(-1)).toMatchObject({ state: "live" });
    const timeUs = 1_790_000_000_250_000;
    await appendPoints(log, cpu(1, "c"), pointRecord({ metric: "cpu", value: 2, tags: { host: "b" }, timeUs }));
    await expect.poll(() => source.points()).toEqual([2]);
    expect(source.text()).toMatch(/^retry: 2000\n\nevent: status\ndata: \{"state":/);
    const data = '{"metric":"cpu","value":2,"tags":{"host":"b"},"time":1790000000.25,"origin":"relay"}';
    expect(source.text()).toContain(`id: relay-0-1\ndata: ${data}\n\n`);
  });

  it("is a comment while nothing happens", async () => {
    await using quick = await startTestStats({ log, heartbeatMs: 50 });
    await using source = await getWatch(quick.port);
    await expect.poll(() => source.text()).toContain("\n\n: alive\n\n: alive\n\n");
  });

  it("frees everything when the browser leaves, and ends when the service stops", async () => {
    const first = await getWatch(stats.port);
    await using second = await getWatch(stats.port);
    expect(stats.live.watchers).toBe(2);
    await first[Symbol.asyncDispose]();
    await expect.poll(() => stats.live.watchers).toBe(1);
    await stats.stop();
    await second.closed;
    expect([stats.live.watchers, stats.live.tails]).toEqual([0, 0]);
    expect((await callH1(stats.port, "/watch", { method: "GET", headers: { "x-auth-token": TOKEN } })).status).toBe(
      503,
    );
  });

  it("refuses a stranger with 401 and nothing else, and a wrong query with the reason", async () => {
    const call = (path: string, token = TOKEN) =>
      callH1(stats.port, path, { method: "GET", headers: { "x-auth-token": token } });
    const stranger = await call("/watch", "wrong");
    expect([stranger.status, stranger.text, stranger.headers["access-control-allow-origin"]]).toEqual([
      401,
      "",
      undefined,
    ]);
    for (const [query, text] of [
      ["metric=", "metric: is empty"],
      ["origin=moon", 'origin: "moon" is invalid'],
      ["=x", "a tag has no name"],
      [Array.from({ length: 101 }, (_, i) => `t${i}=1`).join("&"), "at most 100 tags"],
    ] as const) {
      const refused = await call(`/watch?${query}`);
      expect([refused.status, JSON.parse(refused.text)]).toEqual([400, { error: expect.stringContaining(text) }]);
    }
    expect((await callH1(stats.port, "/watch", { method: "POST" })).status).toBe(404);
    expect(stats.live.watchers).toBe(0);
  });
});

describe("a watcher that is slow", () => {
  it("one that does not read loses the oldest points and is told how many; its neighbour gets all", async () => {
    await using fast = await getWatch(stats.port, "/watch?metric=cpu");
    await using slow = await stalledWatch(stats.port, "/watch?metric=cpu");
    await expect.poll(() => fast.statuses().at(-1)).toMatchObject({ state: "live" });
    const filler = "x".repeat(500);
    const dropped = () => stats.metric("millrace_stats_watch_dropped_points_total");
    let total = 0;
    // Sockets hold some megabytes before the one that does not read is felt here.
    for (; (await dropped()) === 0 && total < 60_000; total += 700) {
      const values = Array.from({ length: 700 }, (_, i) => total + i);
      await appendPoints(log, ...values.map((value) => cpu(value, filler)));
      await expect.poll(() => fast.points().length, { timeout: 5_000, interval: 20 }).toBe(total + 700);
    }
    expect(fast.statuses().at(-1)).toMatchObject({ dropped: 0 });
    expect(await dropped()).toBeGreaterThan(0);
    slow.resume();
    await expect.poll(() => slow.points().at(-1), { timeout: 5_000 }).toBe(total - 1);
    const told = slow.statuses().at(-1) as { dropped: number };
    expect(slow.points().length + told.dropped).toBe(total);
    expect(told.dropped).toBe(await dropped());
    expect(slow.points()).toEqual(slow.points().toSorted((a, b) => a - b));
  });

  it("one that takes nothing for six heartbeats is cut off, over both faces", async () => {
    await using strict = await startTestStats({ log, heartbeatMs: 100 });
    await using silent = await stalledWatch(strict.port, "/watch");
    await using silentCall = await stalledWatch(
      strict.port,
      "/millrace.stats.v1.StatsService/Watch",
      envelope(Buffer.from("{}")),
    );
    const filler = "x".repeat(10_000);
    await expect.poll(() => strict.live.watchers).toBe(2);
    const fill = async () => {
      const batch = Array.from({ length: 100 }, (_, i) => pointRecord({ value: i, tags: { filler } }));
      await appendPoints(log, ...batch);
      return strict.live.watchers;
    };
    await expect.poll(fill, { timeout: 10_000 }).toBe(0);
    for (const one of [silent, silentCall]) {
      one.resume();
      await one.closed;
    }
  });
});
