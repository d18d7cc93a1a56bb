// Times are microseconds since 1970-01-01T00:00:00Z in a JS number: exact to the year 2255, and every stored time lies
// within the range below. Only what is out of range loses microseconds, and its original text is kept.

const DAY_US = 86_400_000_000;

/** Earliest event time stored: the Date type that sorts the table begins here. */
export const EVENT_TIME_MIN_US = 0;
/** 2299-12-31T23:59:59.999999Z, the last moment of a DateTime64. */
export const TIME_US_MAX = 10_413_791_999_999_999n;
/** How far an event may lie after its receive time. */
export const EVENT_TIME_AHEAD_US = DAY_US;

/** Event time moved into [1970-01-01, receive time + 24 h]. */
export function clampEventTime(timeUs: number, receivedUs: number): number {
  if (timeUs < EVENT_TIME_MIN_US) return EVENT_TIME_MIN_US;
  return Math.min(timeUs, receivedUs + EVENT_TIME_AHEAD_US);
}

/** Whether a stored time is where `clampEventTime` moves times to. */
export function isClamped(timeUs: number, receivedUs: number): boolean {
  return timeUs === EVENT_TIME_MIN_US || timeUs === receivedUs + EVENT_TIME_AHEAD_US;
}

/** No form of time is longer; longer texts are not looked at. */
export const TIME_CHARS_MAX = 100;

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/**
 * RFC 3339 date-time with Z or an offset, as microseconds (further digits are cut); undefined for anything else,
 * month 13 and 30 February included. A leap second counts as the second after it.
 */
export function parseRfc3339(text: string): number | undefined {
  const m = text.length > TIME_CHARS_MAX ? undefined : RFC3339.exec(text);
  if (!m) return undefined;
  const [year, month, day, hour, minute, second] = [m[1], m[2], m[3], m[4], m[5], m[6]].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const offsetMinutes = m[8] ? (Number(m[9]) * 60 + Number(m[10])) * (m[8] === "-" ? -1 : 1) : 0;
  if (month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60) return undefined;
  if (Number(m[9] ?? 0) > 23 || Number(m[10] ?? 0) > 59) return undefined;
  const date = new Date(0);
  // setUTCFullYear, because Date.UTC reads years 0 to 99 as 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  const ms = date.getTime() + ((hour * 60 + minute - offsetMinutes) * 60 + second) * 1000;
  const micros = m[7] ? Number(m[7].padEnd(6, "0").slice(0, 6)) : 0;
  return ms * 1000 + micros;
}

/** An offset at the end of a time, or a word for a zone: V8 reads neither as local time. */
const ZONED = /:\d{1,2}(?:\.\d+)?(?: ?[ap]m)? ?[+-]\d|(?<![a-z])(?:z|utc?|gmt|[ecmp][sd]t)(?![a-z])/i;
/** Dates of ISO 8601 without a time are UTC by themselves. */
const ISO_DATE = /^(?:[+-]\d{6}|\d{4})(?:-\d\d){0,2}$/;

/**
 * Any text that JavaScript's Date reads, as microseconds (whole milliseconds; further digits are cut); undefined for
 * anything else. A text that names no zone is UTC, wherever the process runs.
 */
export function parseDateText(text: string): number | undefined {
  if (text.length > TIME_CHARS_MAX) return undefined;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return undefined;
  if (text.endsWith("Z") || ISO_DATE.test(text) || ZONED.test(text)) return ms * 1000;
  // The ISO form takes its zone without a space, every other form with one.
  const utcMs = Date.parse(/\dT\d/.test(text) ? `${text}Z` : `${text} UTC`);
  return (Number.isNaN(utcMs) ? ms - new Date(ms).getTimezoneOffset() * 60_000 : utcMs) * 1000;
}

/**
 * Formatter of microseconds as ClickHouse reads DateTime64(6, 'UTC'): "2026-11-21 10:00:00.000000". One formatter per
 * column: it keeps the text of the last second, since neighbours in a batch mostly share it.
 */
export function createTimeFormatter(): (us: number) => string {
  let second = Number.NaN;
  let prefix = "";
  return (us) => {
    const s = Math.floor(us / 1e6);
    if (s !== second) {
      second = s;
      const iso = new Date(s * 1000).toISOString();
      prefix = `${iso.slice(0, 10)} ${iso.slice(11, 19)}.`;
    }
    return prefix + String(1_000_000 + (us - s * 1e6)).slice(1);
  };
}
