// Times as programs and people write them, where only one reading is possible (docs/times.md). No pattern is used on more
// than TIME_CHARS_MAX characters. What a text leaves out, its zone for example, is for the caller to decide.
import { type CivilTime, weekdayOf } from "./civil-time.ts";

/** No form is longer; a longer text is not looked at. */
export const TIME_CHARS_MAX = 100;

/** A calendar day and a clock that both look right; whether the day exists is for civilSeconds to say. */
export interface WrittenTime extends CivilTime {
  /** 0 to 999,999,999; further digits are cut. */
  nanos: number;
  /** Seconds east of UTC; undefined where the text does not say. */
  offsetSeconds: number | undefined;
  /** IANA zone beside or instead of the offset; "" when there is none. */
  place: string;
}

export const TIME_FAULTS = {
  form: "is not a date in a known form",
  order: "may be month first or day first",
  date: "does not exist",
  offset: "has an offset that does not exist",
  zone: "has a zone that is unknown or has several meanings",
} as const;

export type TimeFault = keyof typeof TIME_FAULTS;

/** How 01/02/2001 is read. */
export type DateOrder = "mdy" | "dmy";

const MONTHS = "january february march april may june july august september october november december".split(" ");
const WEEKDAYS = "sunday monday tuesday wednesday thursday friday saturday".split(" ");

/** Hours east of UTC. Left out are words with several meanings, such as IST and BST; those of North America are RFC 2822's. */
const ZONE_HOURS: ReadonlyMap<string, number> = new Map(
  Object.entries({
    ...{ Z: 0, UTC: 0, GMT: 0, UT: 0, WET: 0, WEST: 1, CET: 1, CEST: 2, EET: 2, EEST: 3, MSK: 3, JST: 9, KST: 9 },
    ...{ AEST: 10, AEDT: 11, NZST: 12, NZDT: 13, HST: -10, AKST: -9, AKDT: -8, PST: -8, PDT: -7, MST: -7, MDT: -6 },
    ...{ CST: -6, CDT: -5, EST: -5, EDT: -4 },
  }),
);

const CLOCK = String.raw`(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?(?:[ \u00a0\u202f]?(?<half>[AP])\.?M\.?)?`;
const OFFSET = String.raw`(?:UTC|GMT|UT)?[+-](?:\d{2}:?\d{2}|\d{1,2}(?::\d{2})?)`;
/** Behind an offset the zone may be named once more, as Go and JavaScript do; the offset counts. */
const ZONE = String.raw`(?<zone>${OFFSET}|[A-Z]{1,4})(?: (?:\([^()]*\)|[A-Z]{2,5}))?`;
const PLACE = String.raw`(?: ?\[!?(?<bracketed>[\w/+-]+)\]| (?<place>[A-Z_]+\/[\w/+-]+))`;
const AT = `(?:T|,? +(?:at +)?)${CLOCK}(?: ?${ZONE})?${PLACE}?`;
const WEEKDAY = String.raw`(?:(?<weekday>[A-Z]{3,9})\.?,? +)?`;
const MONTH = String.raw`(?<word>[A-Z]{3,9})\.?`;

const FORMS = [
  // 2026-03-27T12:00:00Z, 2026/3/7 9:55 PM, +010000-01-01
  String.raw`(?<year>\d{4}|[+-]\d{6})(?<mark>[-/.])(?<month>\d{1,2})\k<mark>(?<day>\d{1,2})(?:${AT})?`,
  // Fri, 27 Mar 2026 12:00:00 GMT, 27-Mar-2026
  String.raw`${WEEKDAY}(?<day>\d{1,2})(?: +|-)${MONTH}(?: +|-)(?<year>\d{4})(?:${AT})?`,
  // March 27, 2026 at 9:55 PM, Fri Mar 27 2026 12:00:00 GMT+0100 (CET)
  String.raw`${WEEKDAY}${MONTH} +(?<day>\d{1,2}),? +(?<year>\d{4})(?:${AT})?`,
  // Fri Mar 27 12:00:00 CET 2026
  String.raw`${WEEKDAY}${MONTH} +(?<day>\d{1,2}) +${CLOCK}(?: +${ZONE})? +(?<year>\d{4})`,
  // 03/27/2026 9:55 PM
  String.raw`(?<first>\d{1,2})(?<mark>[-/.])(?<next>\d{1,2})\k<mark>(?<year>\d{4})(?:${AT})?`,
].map((form) => new RegExp(`^${form}$`, "i"));

/** Reads a text without blanks around it. */
export function readTimeText(text: string, dateOrder?: DateOrder): WrittenTime | TimeFault {
  if (text.length > TIME_CHARS_MAX) return "form";
  for (const form of FORMS) {
    const parts = form.exec(text)?.groups;
    if (parts) return readParts(parts, dateOrder);
  }
  return "form";
}

type Parts = Record<string, string | undefined>;

function readParts(parts: Parts, dateOrder: DateOrder | undefined): WrittenTime | TimeFault {
  const { year, minute, second, fraction = "", weekday, bracketed, place = bracketed } = parts;
  if (parts.first !== undefined && dateOrder === undefined) return "order";
  const [month, day] = monthAndDay(parts, dateOrder);
  const hour = hourOf(Number(parts.hour ?? 0), parts.half?.toLowerCase());
  if (Number.isNaN(month) || (weekday !== undefined && indexOf(WEEKDAYS, weekday) < 0)) return "form";
  if (hour === undefined || year === "-000000") return "date";
  const offsetSeconds = offsetOf(parts.zone);
  if (typeof offsetSeconds === "string") return offsetSeconds;
  const civil = { year: Number(year), month, day, hour, minute: Number(minute ?? 0), second: Number(second ?? 0) };
  if (weekday !== undefined && indexOf(WEEKDAYS, weekday) !== weekdayOf(civil)) return "date";
  return { ...civil, nanos: nanosOf(fraction), offsetSeconds, place: place ?? "" };
}

function monthAndDay({ word, month, day, first, next }: Parts, dateOrder: DateOrder | undefined): [number, number] {
  if (word !== undefined) return [indexOf(MONTHS, word) + 1 || Number.NaN, Number(day)];
  if (month !== undefined) return [Number(month), Number(day)];
  return dateOrder === "mdy" ? [Number(first), Number(next)] : [Number(next), Number(first)];
}

/** Names may be cut after three letters. */
function indexOf(names: readonly string[], word: string): number {
  return names.findIndex((name) => name.startsWith(word.toLowerCase()));
}

function hourOf(hour: number, half: string | undefined): number | undefined {
  if (half === undefined) return hour;
  if (hour < 1 || hour > 12) return undefined;
  return (hour % 12) + (half === "p" ? 12 : 0);
}

function offsetOf(zone: string | undefined): number | undefined | TimeFault {
  if (zone === undefined) return undefined;
  const [, sign, hours, minutes = "0"] = /([+-])(\d{1,2}):?(\d{2})?$/.exec(zone) ?? [];
  if (sign === undefined) {
    const named = ZONE_HOURS.get(zone.toUpperCase());
    return named === undefined ? "zone" : named * 3600;
  }
  if (Number(hours) > 23 || Number(minutes) > 59) return "offset";
  const seconds = Number(hours) * 3600 + Number(minutes) * 60;
  return sign === "-" ? -seconds : seconds;
}

/** Of the digits behind the decimal point of a second. */
export function nanosOf(fraction: string): number {
  return Number(fraction.slice(0, 9).padEnd(9, "0"));
}
