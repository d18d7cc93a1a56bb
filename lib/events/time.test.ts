import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clampEventTime, createTimeFormatter, EVENT_TIME_AHEAD_US, isClamped, parseRfc3339 } from "./time.ts";

describe("RFC 3339", () => {
  it.each([
    ["1970-01-01T00:00:00Z", 0],
    ["2026-03-27T12:00:00Z", 1_774_612_800_000_000],
    ["2026-03-27t12:00:00z", 1_774_612_800_000_000],
    ["2026-03-27 14:30:00+02:30", 1_774_612_800_000_000],
    ["2026-03-27T00:00:00-12:00", 1_774_612_800_000_000],
    ["2024-02-29T00:00:00Z", 1_709_164_800_000_000],
    ["2000-02-29T00:00:00Z", 951_782_400_000_000],
    ["2016-12-31T23:59:60Z", 1_483_228_800_000_000],
    ["2017-01-01T05:29:60.5+05:30", 1_483_228_800_500_000],
    ["1970-01-01T00:00:00.1Z", 100_000],
    ["1970-01-01T00:00:00.000001Z", 1],
    ["1970-01-01T00:00:00.0000019Z", 1],
    ["1970-01-01T00:00:00.123456789012345Z", 123_456],
    ["1969-12-31T23:59:59.999999Z", -1],
    ["0000-01-01T00:00:00Z", -62_167_219_200_000_000],
    ["0001-01-01T00:00:00Z", -62_135_596_800_000_000],
    ["9999-12-31T23:59:59Z", 253_402_300_799_000_000],
  ])("reads %s as %d us", (text, us) => {
    expect(parseRfc3339(text)).toBe(us);
  });

  it.each([
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-01-00T00:00:00Z",
    "2026-01-32T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-01T00:00:61Z",
    "2026-01-01T00:00:60Z",
    "2026-01-30T23:59:60Z",
    "2026-01-31T23:59:60+01:00",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+00:60",
    "2026-01-01T00:00:00+0100",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00Z",
    "2026-01-01",
    "12026-01-01T00:00:00Z",
    "+002026-01-01T00:00:00Z",
    " 2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z ",
    "2026-01-01T00:00:00Z\n",
    "٢٠٢٦-01-01T00:00:00Z",
    "1774612800",
    "",
    `2026-01-01T00:00:00.${"0".repeat(100)}Z`,
  ])("refuses %j", (text) => {
    expect(parseRfc3339(text)).toBeUndefined();
  });

  it("agrees with Date on every millisecond of years 0 to 9999 and every offset", () => {
    const ms = fc.integer({ min: Date.UTC(100, 0, 1), max: Date.UTC(9999, 11, 30) });
    fc.assert(
      fc.property(ms, fc.integer({ min: -1439, max: 1439 }), (at, offset) => {
        const local = new Date(at + offset * 60_000).toISOString().slice(0, -1);
        const [hours, minutes] = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60];
        const zone = `${offset < 0 ? "-" : "+"}${String(hours).padStart(2, "0")}:${String(minutes).padStart(2, "0")}`;
        expect(parseRfc3339(local + zone)).toBe(at * 1000);
      }),
    );
  });
});

describe("event time", () => {
  const received = 1_774_612_800_000_000;

  it.each([
    [-1, 0],
    [0, 0],
    [1, 1],
    [received + EVENT_TIME_AHEAD_US - 1, received + EVENT_TIME_AHEAD_US - 1],
    [received + EVENT_TIME_AHEAD_US, received + EVENT_TIME_AHEAD_US],
    [received + EVENT_TIME_AHEAD_US + 1, received + EVENT_TIME_AHEAD_US],
    [Number.POSITIVE_INFINITY, received + EVENT_TIME_AHEAD_US],
  ])("of %d us is stored as %d us", (given, stored) => {
    expect(clampEventTime(given, received)).toBe(stored);
  });
});

describe("time formatter", () => {
  it("writes microseconds as ClickHouse reads them", () => {
    const format = createTimeFormatter();
    expect(format(0)).toBe("1970-01-01 00:00:00.000000");
    expect(format(1_795_255_200_000_001)).toBe("2026-11-21 10:00:00.000001");
    expect(format(1_795_255_200_999_999)).toBe("2026-11-21 10:00:00.999999");
  });

  it("does not remember the wrong second, whatever came before", () => {
    const times = fc.array(fc.integer({ min: 0, max: 2 ** 52 }), { maxLength: 20 });
    fc.assert(
      fc.property(times, (all) => {
        const format = createTimeFormatter();
        for (const us of all.flatMap((each) => [each, each + 1, each])) {
          const iso = new Date(Math.floor(us / 1000)).toISOString();
          expect(format(us)).toBe(`${iso.slice(0, 10)} ${iso.slice(11, 23)}${String(us % 1000).padStart(3, "0")}`);
        }
      }),
    );
  });
});

it("a clamped time is known by where it is", () => {
  const received = 1e15;
  for (const us of [-5, received * 2]) expect(isClamped(clampEventTime(us, received), received)).toBe(true);
  for (const us of [5, received]) expect(isClamped(clampEventTime(us, received), received)).toBe(false);
});
