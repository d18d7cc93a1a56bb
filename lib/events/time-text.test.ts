import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTimeFormatter, parseDateText, parseRfc3339 } from "./time.ts";
import { readTimeText, TIME_FAULTS, type TimeFault } from "./time-text.ts";

/** Forms of docs/times.md, each with its one reading. */
const READ = {
  "2026-03-27T12:00:00Z": "2026-03-27T12:00:00.000000Z",
  "2026-03-27T12:00:00.123999Z": "2026-03-27T12:00:00.123999Z",
  "2026-03-27T12:00:00": "2026-03-27T12:00:00.000000Z",
  "2026-03-27T12:00:00.123456789": "2026-03-27T12:00:00.123456Z",
  "2026-03-27T12:00:00,5": "2026-03-27T12:00:00.500000Z",
  "2026-03-27T12:00": "2026-03-27T12:00:00.000000Z",
  "2026-03-27T12:00:00+02:00": "2026-03-27T10:00:00.000000Z",
  "2026-03-27T12:00:00-0500": "2026-03-27T17:00:00.000000Z",
  "2026-03-27T12:00:00 +01:00": "2026-03-27T11:00:00.000000Z",
  "2026-03-27T13:00:00+01:00[Europe/Berlin]": "2026-03-27T12:00:00.000000Z",
  "2026-03-27T12:00:00Z[UTC]": "2026-03-27T12:00:00.000000Z",
  "2026-03-27 12:00:00": "2026-03-27T12:00:00.000000Z",
  "2026-03-27 12:00:00.123456+00": "2026-03-27T12:00:00.123456Z",
  "2026-03-27 12:00:00.123456789 +0000 UTC": "2026-03-27T12:00:00.123456Z",
  "2026-03-27 12:00 -5": "2026-03-27T17:00:00.000000Z",
  "2026-03-27 12:00:00 UTC": "2026-03-27T12:00:00.000000Z",
  "2026-03-27 12:00 UTC+2": "2026-03-27T10:00:00.000000Z",
  "2026-03-27 12:00 CET": "2026-03-27T11:00:00.000000Z",
  "2026-03-27 12:00 pdt": "2026-03-27T19:00:00.000000Z",
  "2026-03-27": "2026-03-27T00:00:00.000000Z",
  "2026/03/27 9:55 PM": "2026-03-27T21:55:00.000000Z",
  "2026-3-7": "2026-03-07T00:00:00.000000Z",
  " 2026-03-27\n": "2026-03-27T00:00:00.000000Z",
  "Fri, 27 Mar 2026 12:00:00": "2026-03-27T12:00:00.000000Z",
  "Fri, 27 Mar 2026 12:00:00 GMT": "2026-03-27T12:00:00.000000Z",
  "27 Mar 2026 12:00 -0330": "2026-03-27T15:30:00.000000Z",
  "Fri, 27 Mar 2026 12:00:00 +0100 (CET)": "2026-03-27T11:00:00.000000Z",
  "Fri, 27 Mar 2026 12:00:00 EST": "2026-03-27T17:00:00.000000Z",
  "27-Mar-2026 12:00:00": "2026-03-27T12:00:00.000000Z",
  "Fri Mar 27 2026 12:00:00 GMT+0100 (Central European Standard Time)": "2026-03-27T11:00:00.000000Z",
  "Fri Mar 27 12:00:00 2026": "2026-03-27T12:00:00.000000Z",
  "Fri Mar 27 12:00:00 CET 2026": "2026-03-27T11:00:00.000000Z",
  "March 7, 2026 10:00 PM": "2026-03-07T22:00:00.000000Z",
  "March 7, 2026 at 12:05\u202fam": "2026-03-07T00:05:00.000000Z",
  // The hours that New York and Berlin skip in spring.
  "2026-03-08T02:30:00": "2026-03-08T02:30:00.000000Z",
  "2026-03-29 02:30:00": "2026-03-29T02:30:00.000000Z",
  "2016-12-31T23:59:60": "2017-01-01T00:00:00.000000Z",
  "1969-12-31 23:59:59.999999": "1969-12-31T23:59:59.999999Z",
};

const FAULTS: Record<TimeFault, readonly string[]> = {
  form: [
    ...["", "soon", "today", "NaN", "1", "2024", "1700000000", "20260327", "20260327T120000Z", "2026-03", "2026-W13"],
    ...["12:30", "12:00 2026-03-27", "2026-03-27T", "2026-03-27T12", "2026-03-27T12:00:00.", "2026-03-27T12:00:00 x y"],
    ...["2026-03-27T12:00:00+00:00Z", "2026-03-27T12:00:00 (comment)", "2026-03-08 02:30:00 (x", "2026-03-27 12-30"],
    ...["2026-03/27", "Day, 27 Mar 2026", "27 Mars 2026", "Fri, 27 Mar 26 12:00", "Mar 2026", "٢٠٢٦-03-27"],
    `2026-03-27 12:00:00 +0000 (${"x".repeat(80)})`,
  ],
  order: ["03/04/2026", "27.03.2026 12:00", "3/27/2026, 9:55:00 PM"],
  date: ["-000000-01-01T00:00:00Z", "Sat, 27 Mar 2026 12:00:00 GMT", "2026-03-27 13:00 PM", "2026-03-27 0:30 AM"],
  offset: ["2026-03-27T12:00:00+24:00", "2026-03-27T12:00:00+00:60"],
  zone: ["2026-03-27 12:00 IST", "2026-03-27 12:00 BST", "2026-03-27T12:00:00A", "2026-03-27 12:00 YEST"],
};

const isoOf = (us: number | undefined) => {
  const format = createTimeFormatter();
  return us === undefined ? "" : `${format(us).replace(" ", "T")}Z`;
};

describe("a time in words of one reading", () => {
  it.each(Object.entries(READ))("%j is %s", (text, expected) => {
    expect(isoOf(parseDateText(text))).toBe(expected);
  });

  it.each(["UTC", "America/New_York", "Asia/Kolkata"])("is the same where the process runs in %s", (zone) => {
    const script = `
      import { parseDateText } from ${JSON.stringify(new URL("./time.ts", import.meta.url).href)};
      const texts = ${JSON.stringify([...Object.keys(READ), ...Object.values(FAULTS).flat()])};
      console.log(JSON.stringify(texts.map((text) => parseDateText(text) ?? null)));
    `;
    const options = { env: { ...process.env, TZ: zone }, cwd: fileURLToPath(new URL(".", import.meta.url)) };
    const output = execFileSync(process.execPath, ["--input-type=module", "--eval", script], options).toString();
    const read = JSON.parse(output) as (number | null)[];
    const expected = [...Object.keys(READ), ...Object.values(FAULTS).flat()].map((text) => parseDateText(text) ?? null);
    expect(read).toEqual(expected);
  });

  it.each(Object.entries(FAULTS).flatMap(([fault, texts]) => texts.map((text) => [text, fault] as const)))(
    "is not in %j: %s",
    (text, fault) => {
      expect(readTimeText(text)).toBe(fault);
      expect(TIME_FAULTS).toHaveProperty(fault);
      expect(parseDateText(text)).toBeUndefined();
    },
  );

  it.each(["2024-02-30", "2024-02-30T00:00:00", "2026-13-01", "2026-03-27T24:00:00", "2026-03-27 25:00", "2026-00-10"])(
    "is not in %j, which does not exist",
    (text) => {
      expect(parseDateText(text)).toBeUndefined();
    },
  );

  it("does not take a zone's name without an offset", () => {
    expect(parseDateText("2026-03-27T12:00:00[Europe/Berlin]")).toBeUndefined();
    expect(readTimeText("2026-03-27 12:00 Europe/Berlin")).toMatchObject({ place: "Europe/Berlin", hour: 12 });
  });

  it("reads numbers of day and month in the order that is said", () => {
    expect(readTimeText("03/04/2026", "mdy")).toMatchObject({ month: 3, day: 4 });
    expect(readTimeText("03.04.2026", "dmy")).toMatchObject({ month: 4, day: 3 });
  });
});

describe("docs/times.md", () => {
  const page = readFileSync(new URL("../../docs/times.md", import.meta.url), "utf8");
  const [forms = "", notRead = ""] = page.split("\nNot read:\n");

  it("says what the forms mean", () => {
    const rows = [...forms.matchAll(/^\| `([^`]+)` +\| `([^`]+Z)` +\|$/gm)].map(([, text = "", value]) => [
      text,
      value,
    ]);
    expect(rows.length).toBeGreaterThan(10);
    expect(rows.map(([text = ""]) => [text, isoOf(parseDateText(text))])).toEqual(rows);
  });

  it("says what is not read", () => {
    const texts = [...notRead.matchAll(/^\| `([^`]+)` +\| [a-z]/gm)].map(([, text = ""]) => text);
    expect(texts.length).toBeGreaterThan(6);
    expect(texts.filter((text) => parseDateText(text) !== undefined)).toEqual([]);
  });
});

const MONTH_NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_NAMES = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** Days since 1970 by counting years and months, 1969 and before backwards; undefined for a day that does not exist. */
function countedDays(year: number, month: number, day: number): number | undefined {
  const lengthOf = (y: number, m: number) =>
    m === 2 ? ((y % 4 === 0 && y % 100 !== 0) || y % 400 === 0 ? 29 : 28) : [4, 6, 9, 11].includes(m) ? 30 : 31;
  if (month < 1 || month > 12 || day < 1 || day > lengthOf(year, month)) return undefined;
  let days = day - 1;
  for (let m = 1; m < month; m++) days += lengthOf(year, m);
  for (let y = 1970; y < year; y++) days += 337 + lengthOf(y, 2);
  for (let y = year; y < 1970; y++) days -= 337 + lengthOf(y, 2);
  return days;
}

describe("any time", () => {
  const two = (n: number) => String(n).padStart(2, "0");
  const parts = fc.record({
    year: fc.integer({ min: 0, max: 2254 }),
    month: fc.integer({ min: 1, max: 12 }),
    day: fc.integer({ min: 1, max: 31 }),
    hour: fc.integer({ min: 0, max: 23 }),
    minute: fc.integer({ min: 0, max: 59 }),
    second: fc.integer({ min: 0, max: 59 }),
    fraction: fc.string({ unit: fc.constantFrom(..."0123456789"), maxLength: 12 }),
    offset: fc.integer({ min: -1439, max: 1439 }),
  });

  it("is what counting days and seconds makes of it, in every form", () => {
    fc.assert(
      fc.property(parts, ({ year, month, day, hour, minute, second, fraction, offset }) => {
        const days = countedDays(year, month, day);
        const micros = Number(fraction.padEnd(6, "0").slice(0, 6));
        const local = days === undefined ? undefined : ((days * 24 + hour) * 60 + minute) * 60 + second;
        const expected = local === undefined ? undefined : (local - offset * 60) * 1e6 + micros;
        const name = DAY_NAMES[((((days ?? 0) + 4) % 7) + 7) % 7];
        const size = Math.abs(offset);
        const zone = (mark: string) => `${offset < 0 ? "-" : "+"}${two(Math.floor(size / 60))}${mark}${two(size % 60)}`;
        const [y, word] = [String(year).padStart(4, "0"), MONTH_NAMES[month - 1]];
        const point = fraction === "" ? "" : `.${fraction}`;
        const clock = `${two(hour)}:${two(minute)}:${two(second)}${point}`;
        const half = `${hour % 12 || 12}:${two(minute)}:${two(second)}${point} ${hour < 12 ? "am" : "p.m."}`;
        const date = `${y}-${two(month)}-${two(day)}`;
        expect(parseRfc3339(`${date}T${clock}${zone(":")}`)).toBe(expected);
        for (const text of [
          `${date} ${clock} ${zone("")}`,
          `${y}/${month}/${day}, ${half} GMT${zone("")}`,
          `${name}, ${two(day)} ${word} ${y} ${clock} ${zone("")}`,
          `${name} ${word} ${two(day)} ${y} ${clock} GMT${zone("")} (Some Standard Time)`,
          `${name} ${word} ${String(day).padStart(2, " ")} ${clock} ${zone("")} ${y}`,
        ]) {
          expect([text, parseDateText(text)]).toEqual([text, expected]);
        }
        const withoutZone = local === undefined ? undefined : local * 1e6 + micros;
        expect(parseDateText(`${date} ${clock}`)).toBe(withoutZone);
        expect(parseDateText(`${date}T${clock}`)).toBe(withoutZone);
      }),
    );
  });

  it("that calendar or clock do not have is not read", () => {
    const wide = fc.tuple(
      fc.integer({ min: 0, max: 14 }),
      fc.integer({ min: 0, max: 33 }),
      fc.integer({ min: 0, max: 26 }),
      fc.integer({ min: 0, max: 62 }),
      fc.integer({ min: 0, max: 62 }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1890, max: 2110 }), wide, (year, [month, day, hour, minute, second]) => {
        const isDay = countedDays(year, month, day) !== undefined;
        const isLeap = second === 60 && hour === 23 && minute === 59 && countedDays(year, month, day + 1) === undefined;
        const exists = isDay && hour <= 23 && minute <= 59 && (second <= 59 || isLeap);
        const text = `${year}-${two(month)}-${two(day)}T${two(hour)}:${two(minute)}:${two(second)}`;
        expect([text, parseDateText(text) !== undefined]).toEqual([text, exists]);
        expect(parseRfc3339(`${text}Z`) !== undefined).toBe(exists);
      }),
      { numRuns: 1000 },
    );
  });

  it("is read back from what is stored", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 53 - 1 }), (us) => {
        const stored = createTimeFormatter()(us);
        expect(parseDateText(stored)).toBe(us);
        expect(parseRfc3339(`${stored}Z`)).toBe(us);
      }),
    );
  });

  it("that JavaScript writes is read as JavaScript means it, also years of six digits", () => {
    const moments = fc.oneof(
      fc.date({ noInvalidDate: true }),
      fc.date({ min: new Date(0), max: new Date("2255-01-01"), noInvalidDate: true }),
    );
    fc.assert(
      fc.property(moments, (date) => {
        // Beyond the year 2255 a double has no single microseconds.
        expect(Math.abs((parseDateText(date.toISOString()) ?? Number.NaN) - date.getTime() * 1000)).toBeLessThan(1025);
        const [year, seconds] = [date.getUTCFullYear(), Math.floor(date.getTime() / 1000)];
        if (year >= 0 && year <= 9999) expect(parseDateText(date.toUTCString())).toBe(seconds * 1e6);
        // Before, zones had offsets with seconds, which the text leaves out.
        if (year >= 1973 && year < 9999) expect(parseDateText(date.toString())).toBe(seconds * 1e6);
      }),
    );
  });
});
