import { describe, expect, it } from "vitest";
import type { DateOrder } from "#lib/events/time-text.ts";
import { createRowParser } from "./parse.ts";
import { createTimeParser } from "./time.ts";

/** An integer that JSON.parse would round, as rows have it. */
function exactNumber(digits: string): unknown {
  const row = createRowParser("ndjson").parse(`{"a":${digits}}`);
  return row?.ok && "fields" in row ? row.fields.a : row;
}

function parse(value: unknown, zone = "UTC", dateOrder?: DateOrder): string {
  const parsed = createTimeParser({ zone, dateOrder })(value);
  if (!parsed.ok) return `refused: ${parsed.reason}`;
  const { seconds, nanos } = parsed.instant;
  const second = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return nanos === 0 ? `${second}Z` : `${second}.${String(nanos).padStart(9, "0")}Z`;
}

describe("dates with a known meaning", () => {
  it.each([
    ["2001/01/14 21:55", "2001-01-14T21:55:00Z"],
    ["2001-01-14 21:55:00", "2001-01-14T21:55:00Z"],
    ["2001-01-14T21:55:00Z", "2001-01-14T21:55:00Z"],
    ["2001-01-14T21:55:00.123456789+02:00", "2001-01-14T19:55:00.123456789Z"],
    ["2001-01-14T21:55:00-0530", "2001-01-15T03:25:00Z"],
    ["2001-01-14", "2001-01-14T00:00:00Z"],
    ["2001/1/4", "2001-01-04T00:00:00Z"],
    ["1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000000Z"],
    ["2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"],
    [979509300, "2001-01-14T21:55:00Z"],
    ["979509300.25", "2001-01-14T21:55:00.250000000Z"],
    [979509300123, "2001-01-14T21:55:00.123000000Z"],
    ["-979509300.25", "1938-12-18T02:04:59.750000000Z"],
    ["1795255200123.9", "2026-11-21T10:00:00.123900000Z"],
    [1795255200123.9, "2026-11-21T10:00:00.123900000Z"],
    ["1795255200123456", "2026-11-21T10:00:00.123456000Z"],
    [1795255200123456, "2026-11-21T10:00:00.123456000Z"],
    ["1795255200123456.789", "2026-11-21T10:00:00.123456789Z"],
    ["1795255200123456789", "2026-11-21T10:00:00.123456789Z"],
    [exactNumber("1795255200123456789"), "2026-11-21T10:00:00.123456789Z"],
    ["-1795255200123456", "1913-02-10T13:59:59.876544000Z"],
    ["0979509300", "2001-01-14T21:55:00Z"],
    ["2026-11-20 10:00:00.123456 UTC", "2026-11-20T10:00:00.123456000Z"],
    ["2026-11-20 10:00:00+01", "2026-11-20T09:00:00Z"],
    ["2026-11-20 10:00 EST", "2026-11-20T15:00:00Z"],
    ["Fri, 20 Nov 2026 10:00:00 +0100", "2026-11-20T09:00:00Z"],
    ["Fri Nov 20 2026 10:00:00 GMT+0100 (CET)", "2026-11-20T09:00:00Z"],
    ["20 November 2026", "2026-11-20T00:00:00Z"],
    ["2026-11-20T10:00:00+01:00[Europe/Berlin]", "2026-11-20T09:00:00Z"],
  ])("reads %j as %s", (value, expected) => expect(parse(value)).toBe(expected));

  it.each([
    ["01/14/2001", "mdy", "2001-01-14T00:00:00Z"],
    ["02/03/2001 12:05 AM", "mdy", "2001-02-03T00:05:00Z"],
    ["02/03/2001 9:55 PM", "mdy", "2001-02-03T21:55:00Z"],
    ["02.03.2001 09:55", "dmy", "2001-03-02T09:55:00Z"],
    ["14-01-2001 09:55 CET", "dmy", "2001-01-14T08:55:00Z"],
    ["1/14/2001, 9:55:00\u202fPM", "mdy", "2001-01-14T21:55:00Z"],
  ] as const)("reads %j as %s under %s", (value, order, expected) => expect(parse(value, "UTC", order)).toBe(expected));
});

describe("zones", () => {
  it.each([
    ["2001-01-14 21:55", "America/New_York", "2001-01-15T02:55:00Z"],
    ["2001-07-14 21:55", "Europe/Berlin", "2001-07-14T19:55:00Z"],
    ["2001-07-14 21:55", "Asia/Kathmandu", "2001-07-14T16:10:00Z"],
    ["2001-07-14T21:55Z", "Europe/Berlin", "2001-07-14T21:55:00Z"],
    ["2001-07-14T21:55[America/New_York]", "Europe/Berlin", "2001-07-15T01:55:00Z"],
    ["2001-01-14 21:55 America/New_York", "Europe/Berlin", "2001-01-15T02:55:00Z"],
    ["Sat, 14 Jul 2001 21:55:00", "Europe/Berlin", "2001-07-14T19:55:00Z"],
    ["2017-01-01 00:59:60", "Europe/Berlin", "2017-01-01T00:00:00Z"],
  ])("reads %s in %s as %s", (value, zone, expected) => expect(parse(value, zone)).toBe(expected));

  it("moves a time that the clocks skipped forward by the skipped hour", () => {
    expect(parse("2021-03-28 02:30", "Europe/Berlin")).toBe("2021-03-28T01:30:00Z");
    expect(parse("2021-03-14 02:30", "America/New_York")).toBe("2021-03-14T07:30:00Z");
  });

  it("takes the first of two equal local times", () => {
    expect(parse("2021-10-31 02:30", "Europe/Berlin")).toBe("2021-10-31T00:30:00Z");
    expect(parse("2021-11-07 01:30", "America/New_York")).toBe("2021-11-07T05:30:00Z");
  });

  it("agrees around a change with what the zone shows", () => {
    const shown = new Intl.DateTimeFormat("sv-SE", {
      timeZone: "America/New_York",
      dateStyle: "short",
      timeStyle: "medium",
    });
    const from = Date.UTC(2021, 10, 6);
    for (let ms = from; ms < from + 3 * 86_400_000; ms += 1_234_000) {
      const local = shown.format(ms);
      const read = Date.parse(parse(local, "America/New_York"));
      expect(shown.format(read)).toBe(local);
    }
  });

  it("refuses a zone that does not exist", () => {
    expect(() => createTimeParser({ zone: "Mars/Olympus", dateOrder: undefined })).toThrow(RangeError);
  });
});

it.each([
  ["", "is empty"],
  [null, "is empty"],
  [true, "is not a date"],
  ["yesterday", "not a date in a known form"],
  ["2001-02-30", "does not exist"],
  ["2001-02-03 24:10", "does not exist"],
  ["02/03/2001", "--date-order"],
  ["2001-02-03T10:00:00+99:00", "offset"],
  [20010114, "neither a number of seconds"],
  ["2001", "neither a number of seconds"],
  ["1".repeat(21), "neither a number of seconds"],
  ["1".repeat(1_000_000), "known form"],
  ["03/04/2001 10:00", "may be month first or day first: say which with --date-order"],
  ["2001-02-03T10:00[Mars/Olympus]", "has a zone that is unknown"],
  ["2001-02-03 10:00 IST", "has a zone that is unknown or has several meanings"],
  ["2001-02-03T24:00:00", "does not exist"],
  ["Mon, 03 Feb 2001 10:00:00 GMT", "does not exist"],
])("refuses %j: %s", (value, reason) => expect(parse(value)).toContain(reason));
