// Dates as people write them in files → instants. Pure; zones come from the Intl data that Node ships.

export interface Instant {
  seconds: bigint;
  /** 0 to 999,999,999, also before 1970: protobuf counts nanos forward from `seconds`. */
  nanos: number;
}

export type ParsedTime = { ok: true; instant: Instant } | { ok: false; reason: string };

export type DateOrder = "mdy" | "dmy";

export interface TimeOptions {
  /** IANA zone of dates that carry no offset. */
  zone: string;
  /** How 01/02/2001 is read; undefined: such dates are refused, because a wrong guess moves events by months. */
  dateOrder: DateOrder | undefined;
}

export type TimeParser = (value: unknown) => ParsedTime;

const clock = String.raw`(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?: ?([AaPp])\.?[Mm]\.?)?)?`;
const offset = String.raw`(?: ?(Z|z|[+-]\d{2}:?\d{2}))?`;
const yearFirst = new RegExp(String.raw`^(\d{4})[-/](\d{1,2})[-/](\d{1,2})${clock}${offset}$`);
const yearLast = new RegExp(String.raw`^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})${clock}${offset}$`);
const epoch = /^-?\d+(?:\.\d+)?$/;

// Below 1e8 seconds (March 1973) a number is more likely 20010114 or a year than an instant; from 1e11 on it counts
// milliseconds (1e11 s is the year 5138, 1e11 ms is again March 1973), so the two ranges never overlap.
const epochSecondsMin = 1e8;
const epochMillisMin = 1e11;
const epochMillisMax = 1e14;

/**
 * A parser for one column. Takes RFC 3339, `2001/01/14 21:55`, `2001-01-14 21:55:00.123`, a date alone (midnight),
 * epoch seconds and milliseconds (number or digits) and, with `dateOrder`, `01/14/2001 9:55 PM`.
 *
 * A local time that a daylight-saving change skips is read with the offset from before the change (02:30 becomes
 * 03:30); one that happens twice is the first of the two. Throws RangeError for an unknown zone.
 */
export function createTimeParser(options: TimeOptions): TimeParser {
  const offsetMsOf = createZoneOffset(options.zone);
  return (value) => {
    if (typeof value === "number") return fromEpoch(String(value));
    if (typeof value !== "string") return refused(value === undefined || value === null ? "is empty" : "is not a date");
    const text = value.trim();
    if (text === "") return refused("is empty");
    if (epoch.test(text)) return fromEpoch(text);
    const first = yearFirst.exec(text);
    if (first !== null) return fromParts(text, first[1], first[2], first[3], first, offsetMsOf);
    const last = yearLast.exec(text);
    if (last === null) return refused(`"${shorten(text)}" is not a date in a known form`);
    if (options.dateOrder === undefined) {
      return refused(`"${shorten(text)}" may be month first or day first: say which with --date-order mdy or dmy`);
    }
    const [month, day] = options.dateOrder === "mdy" ? [last[1], last[2]] : [last[2], last[1]];
    return fromParts(text, last[3], month, day, last, offsetMsOf);
  };
}

function refused(reason: string): ParsedTime {
  return { ok: false, reason };
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function fromEpoch(text: string): ParsedTime {
  const number = Number(text);
  const size = Math.abs(number);
  if (!(size >= epochSecondsMin && size < epochMillisMax)) {
    return refused(`${shorten(text)} is neither epoch seconds nor epoch milliseconds nor a date`);
  }
  if (size >= epochMillisMin) return { ok: true, instant: instantOf(Math.floor(number), 0) };
  const [whole = "0", fraction = ""] = text.replace("-", "").split(".");
  const nanos = nanosOf(fraction.slice(0, 9));
  if (!text.startsWith("-")) return { ok: true, instant: { seconds: BigInt(whole), nanos } };
  const seconds = -BigInt(whole);
  return { ok: true, instant: nanos === 0 ? { seconds, nanos } : { seconds: seconds - 1n, nanos: 1e9 - nanos } };
}

function nanosOf(fraction: string): number {
  return Number(fraction.padEnd(9, "0"));
}

function instantOf(ms: number, nanos: number): Instant {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1e6 + nanos };
}

function fromParts(
  text: string,
  yearText: string | undefined,
  monthText: string | undefined,
  dayText: string | undefined,
  match: RegExpExecArray,
  offsetMsOf: (localMs: number) => number,
): ParsedTime {
  const [year, month, day] = [Number(yearText), Number(monthText), Number(dayText)];
  const half = match[8]?.toLowerCase();
  const hour = hourOf(Number(match[4] ?? 0), half);
  const minute = Number(match[5] ?? 0);
  const second = Number(match[6] ?? 0);
  // Date.UTC would carry 31 February into March; a date that does not exist is a fault of the row, not a date.
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const exists = date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  // 23:59:60 is a leap second in RFC 3339; it is read as the second that follows.
  if (!exists || hour === undefined || minute > 59 || second > 60) return refused(`"${shorten(text)}" does not exist`);
  const localMs = date.getTime() + ((hour * 60 + minute) * 60 + second) * 1000;
  const zone = match[9];
  if (zone !== undefined && !offsetExists(zone)) return refused(`"${shorten(text)}" has an offset that does not exist`);
  const offsetMs = zone === undefined ? offsetMsOf(localMs) : offsetMsFrom(zone);
  return { ok: true, instant: instantOf(localMs - offsetMs, nanosOf(match[7] ?? "")) };
}

function hourOf(hour: number, half: string | undefined): number | undefined {
  if (half === undefined) return hour <= 23 ? hour : undefined;
  if (hour < 1 || hour > 12) return undefined;
  return (hour % 12) + (half === "p" ? 12 : 0);
}

function offsetExists(zone: string): boolean {
  return zone.length === 1 || (Number(zone.slice(1, 3)) <= 23 && Number(zone.slice(-2)) <= 59);
}

function offsetMsFrom(zone: string): number {
  if (zone.length === 1) return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2));
  return (zone.startsWith("-") ? -minutes : minutes) * 60_000;
}

const dayMs = 86_400_000;
const cacheStepMs = 900_000;
const cacheEntriesMax = 10_000;

/** Offset east of UTC, in milliseconds, of a local time given as if it were UTC. */
function createZoneOffset(zone: string): (localMs: number) => number {
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
