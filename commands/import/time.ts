// Dates as people write them in files → instants. Pure; zones come from the Intl data that Node ships.

import { civilSeconds } from "#lib/events/civil-time.ts";
import { isExactNumber } from "#lib/events/json-value.ts";
import {
  type DateOrder,
  nanosOf,
  readTimeText,
  TIME_CHARS_MAX,
  TIME_FAULTS,
  type WrittenTime,
} from "#lib/events/time-text.ts";

export interface Instant {
  seconds: bigint;
  /** 0 to 999,999,999, also before 1970: protobuf counts nanos forward from `seconds`. */
  nanos: number;
}

export type ParsedTime = { ok: true; instant: Instant } | { ok: false; reason: string };

export interface TimeOptions {
  /** IANA zone of dates that carry no offset. */
  zone: string;
  /** How 01/02/2001 is read; undefined: such dates are refused, because a wrong guess moves events by months. */
  dateOrder: DateOrder | undefined;
}

export type TimeParser = (value: unknown) => ParsedTime;

const epochText = /^(-?)(\d+)(?:\.(\d+))?$/;
// Below 1e8 seconds (March 1973) a number is more likely 20010114 or a year than an instant. From 1e11 on it counts
// milliseconds, from 1e14 on microseconds, from 1e17 on nanoseconds: each begins in March 1973 again and ends in 5138, so
// that the ranges never overlap.
const epochDigitsMin = 9;
const epochDigitsOfSeconds = 11;

/**
 * A parser for one column. Takes the forms of docs/times.md, numbers since 1970 (seconds, milli-, micro- or nanoseconds,
 * as number or digits) and, with `dateOrder`, `01/14/2001 9:55 PM`.
 *
 * A local time that a daylight-saving change skips is read with the offset from before the change (02:30 becomes
 * 03:30); one that happens twice is the first of the two. Throws RangeError for an unknown zone.
 */
export function createTimeParser(options: TimeOptions): TimeParser {
  const offsetMsOf = createZoneOffset(options.zone);
  const placeOffset = createPlaceOffset();
  return (value) => {
    if (typeof value === "number") return fromEpoch(String(value));
    if (isExactNumber(value)) return fromEpoch(value.rawJSON);
    if (typeof value !== "string") return refused(value === undefined || value === null ? "is empty" : "is not a date");
    const text = value.trim();
    if (text === "") return refused("is empty");
    if (text.length > TIME_CHARS_MAX) return refused(`"${shorten(text)}" ${TIME_FAULTS.form}`);
    if (epochText.test(text)) return fromEpoch(text);
    const time = readTimeText(text, options.dateOrder);
    if (time === "order")
      return refused(`"${shorten(text)}" ${TIME_FAULTS.order}: say which with --date-order mdy or dmy`);
    if (typeof time === "string") return refused(`"${shorten(text)}" ${TIME_FAULTS[time]}`);
    return fromParts(text, time);
  };

  function fromParts(text: string, time: WrittenTime): ParsedTime {
    // Zones are asked by a second that every minute has.
    const localSeconds = civilSeconds({ ...time, second: Math.min(time.second, 59) }, 0);
    if (localSeconds === undefined) return refused(`"${shorten(text)}" ${TIME_FAULTS.date}`);
    let offsetSeconds = time.offsetSeconds;
    if (offsetSeconds === undefined) {
      const zone = time.place === "" ? offsetMsOf : placeOffset(time.place);
      if (!zone) return refused(`"${shorten(text)}" ${TIME_FAULTS.zone}`);
      offsetSeconds = zone(localSeconds * 1000) / 1000;
    }
    const seconds = civilSeconds(time, offsetSeconds);
    if (seconds === undefined) return refused(`"${shorten(text)}" ${TIME_FAULTS.date}`);
    return { ok: true, instant: { seconds: BigInt(seconds), nanos: time.nanos } };
  }
}

function refused(reason: string): ParsedTime {
  return { ok: false, reason };
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function fromEpoch(text: string): ParsedTime {
  const [, sign, whole = "", fraction = ""] = epochText.exec(text) ?? [];
  const digits = whole.replace(/^0+/, "");
  // Of a second: 0 digits for seconds, 3 for milliseconds, 6, 9.
  const scale = Math.max(0, Math.ceil((digits.length - epochDigitsOfSeconds) / 3)) * 3;
  if (digits.length < epochDigitsMin || scale > 9) {
    return refused(`${shorten(text)} is neither a number of seconds to nanoseconds since 1970 nor a date`);
  }
  const point = digits.length - scale;
  const seconds = BigInt(digits.slice(0, point));
  const nanos = nanosOf(digits.slice(point) + fraction);
  if (sign === "") return { ok: true, instant: { seconds, nanos } };
  return {
    ok: true,
    instant: nanos === 0 ? { seconds: -seconds, nanos } : { seconds: -seconds - 1n, nanos: 1e9 - nanos },
  };
}

const dayMs = 86_400_000;
const cacheStepMs = 900_000;
const cacheEntriesMax = 10_000;

/** Offset east of UTC, in milliseconds, of a local time given as if it were UTC. */
type ZoneOffset = (localMs: number) => number;

const placesMax = 100;

/** The zones that dates name themselves; undefined for one that does not exist. */
function createPlaceOffset(): (place: string) => ZoneOffset | undefined {
  const known = new Map<string, ZoneOffset | undefined>();
  return (place) => {
    if (!known.has(place)) {
      if (known.size >= placesMax) known.clear();
      known.set(place, isZone(place) ? createZoneOffset(place) : undefined);
    }
    return known.get(place);
  };
}

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    return true;
  } catch {
    // RangeError: Intl has no other way to say so.
    return false;
  }
}

function createZoneOffset(zone: string): ZoneOffset {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    era: "short",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  if (zone === "UTC") return () => 0;

  const offsetAt = (utcMs: number): number => {
    const parts: Record<string, string> = {};
    for (const part of format.formatToParts(utcMs)) parts[part.type] = part.value;
    const year = parts.era === "BC" ? 1 - Number(parts.year) : Number(parts.year);
    const local = new Date(0);
    local.setUTCFullYear(year, Number(parts.month) - 1, Number(parts.day));
    local.setUTCHours(Number(parts.hour), Number(parts.minute), Number(parts.second));
    return local.getTime() - Math.floor(utcMs / 1000) * 1000;
  };

  const resolve = (localMs: number): number => {
    const before = offsetAt(localMs - dayMs);
    const after = offsetAt(localMs + dayMs);
    if (offsetAt(localMs - before) === before) return before;
    return offsetAt(localMs - after) === after ? after : before;
  };

  // Formatting costs microseconds a call and files are sorted by time more often than not. Zones of the last hundred
  // years change on quarter hours, so the answer for a quarter hour is the answer for all of it.
  const cache = new Map<number, number>();
  return (localMs) => {
    const step = Math.floor(localMs / cacheStepMs);
    const known = cache.get(step);
    if (known !== undefined) return known;
    if (cache.size >= cacheEntriesMax) cache.clear();
    const found = resolve(step * cacheStepMs);
    cache.set(step, found);
    return found;
  };
}
