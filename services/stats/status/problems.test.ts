// The sentences of a status, from facts.
import { expect, it } from "vitest";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { TopicFlow } from "./flow.ts";
import { type Facts, LOG_DISK, problemsOf, whyWaiting } from "./problems.ts";

const NOW_MS = Date.parse("2026-03-27T12:00:00Z");
const SINCE_MS = NOW_MS - 20_000;

const flow = (topic: string, waiting: number): TopicFlow => ({
  ...{ topic, partitions: [], end: waiting, next: 0, waiting, oldestWaitingMs: SINCE_MS, stuckSinceMs: SINCE_MS },
  ...{ inPerSecond: undefined, storedPerSecond: undefined, batchWait: undefined },
});
const facts: Facts = {
  ...{ nowMs: NOW_MS, logSystem: "sqlite", newestRowMs: new Map([[EVENTS_TOPIC, SINCE_MS]]), disks: [] },
  flows: [flow(EVENTS_TOPIC, 1_200), flow(POINTS_TOPIC, 1)],
};
const full = (name: string) => ({ name, free: 0, total: 640_000_000, fullSinceMs: SINCE_MS });
const found = (more: Partial<Facts>) => problemsOf({ ...facts, ...more }).map(({ name, text }) => [name, text]);

it("a full disk of ClickHouse says since when and what waits, in the place of a consumer that stands still", () => {
  const seen = { ...facts, disks: [full("clickhouse:default")] };
  expect(found(seen)).toEqual([
    [
      "disk_clickhouse:default",
      "No rows since 2026-03-27T11:59:40Z: the disk of ClickHouse (default) has been full since 2026-03-27T11:59:40Z (0 MB of 640 MB left). 1,200 events and 1 point wait on the log, none is lost.",
    ],
  ]);
  expect(whyWaiting(seen, EVENTS_TOPIC, 0)).toBe(
    "The disk of ClickHouse (default) has been full since 2026-03-27T11:59:40Z; the consumer stores it when there is room.",
  );
});

it("a log that cannot be written says so once, whatever its disk says", () => {
  const logAway = { sinceMs: SINCE_MS, why: "the log is full" };
  expect(found({ logAway, disks: [full(LOG_DISK)] })).toEqual([
    [
      "log_away",
      expect.stringMatching(/could not be written since 2026-03-27T11:59:40Z \(the log is full\)\..*none is lost\.$/),
    ],
  ]);
  expect(found({ flows: [], disks: [full(LOG_DISK)] })).toEqual([
    ["disk_log", expect.stringMatching(/^The disk of the log has been full since .* Callers may get 503/)],
  ]);
});

it("a consumer is given time after what it waited for is back", () => {
  expect(found({ backMs: NOW_MS - 1_000 })).toEqual([]);
  expect(found({ backMs: NOW_MS - 7_000 }).map(([name]) => name)).toEqual([
    "consumer_stopped",
    "consumer_stopped_points",
  ]);
});
