// Days that are no 24 hours: which quarters of an hour /daily has, and how often each counts.
import { describe, expect, it } from "vitest";
import type { StatsQueries } from "./queries/queries.ts";
import { createHistory } from "./routes-history.ts";
import type { StatRequest } from "./stat-request.ts";

const QUARTER_MS = 900_000;

/** /daily over quarters of an hour that are all there, from noon to noon (UTC), with these values. */
async function daily(
  timeZone: string,
  noon: string,
  valueAt: (time: string) => number,
  own: Partial<StatRequest> = {},
) {
  const fromMs = Date.parse(noon);
  const times = Array.from({ length: 96 }, (_, i) => fromMs + i * QUARTER_MS);
  const series: StatsQueries["series"] = async () =>
    times.map((timeMs) => ({ timeMs, group: {}, values: [valueAt(new Date(timeMs).toISOString().slice(11, 16))] }));
  const nowMs = () => fromMs + 96 * QUARTER_MS;
  const history = createHistory({ queries: { series } as StatsQueries, aggregateMs: QUARTER_MS, timeZone, nowMs });
  const request = { stat: "m", filters: {}, verb: "max", compat: "readme", ...own } as StatRequest;
  return (await history.daily(request)) as Record<string, number>;
}

describe("/daily over the night in which the clock", () => {
  it.each([
    ["max", 3],
    ["min", 1],
    ["sum", 4],
    ["mean", 2],
  ] as const)("is set back counts both hours of that name, and has each quarter once, by %s", async (verb, both) => {
    const value = (utc: string) => (utc.startsWith("01:") ? 3 : 1);
    const found = await daily("Europe/Berlin", "2026-10-24T12:00:00Z", value, { verb });
    // 23 hours by name: from 14:00 on the first day to 13:00 on the second, of which 02:xx was there twice.
    expect(Object.keys(found)).toHaveLength(92);
    expect(Object.keys(found)).toEqual(Object.keys(found).toSorted());
    expect([found["01:45"], found["02:00"], found["02:45"], found["03:00"]]).toEqual([1, both, both, 1]);
    expect(found["13:00"]).toBeUndefined();
  });

  it("is set forward has no hour of that name, unless it is filled", async () => {
    const found = await daily("Europe/Berlin", "2026-03-28T12:00:00Z", () => 1);
    expect(["01:45", "02:00", "02:45", "03:00"].map((time) => found[time])).toEqual([1, undefined, undefined, 1]);
    const filled = await daily("Europe/Berlin", "2026-03-28T12:00:00Z", () => 1, { backfill: -5 });
    expect(Object.keys(filled)).toHaveLength(96);
    expect([filled["01:45"], filled["02:00"], filled["02:45"], filled["03:00"]]).toEqual([1, -5, -5, 1]);
  });

  it("is set by half an hour keeps its quarters", async () => {
    const found = await daily("Australia/Lord_Howe", "2026-04-04T12:00:00Z", () => 1);
    expect(Object.keys(found).every((time) => /^\d\d:(00|15|30|45)$/.test(time))).toBe(true);
    expect(new Set(Object.values(found))).toEqual(new Set([1]));
  });
});
