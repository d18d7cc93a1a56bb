// Times are microseconds since 1970-01-01T00:00:00Z in a JS number: exact to the year 2255, and every stored time lies
// within the range below. Only what is out of range loses microseconds, and its original text is kept.
import { civilSeconds } from "./civil-time.ts";
import { readTimeText, TIME_CHARS_MAX } from "./time-text.ts";

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

const [DASH, DOT, ZERO, COLON, PLUS, SPACE] = [0x2d, 0x2e, 0x30, 0x3a, 0x2b, 0x20];

/**
 * RFC 3339 date-time with Z or an offset, as microseconds (further digits are cut); undefined for anything else, month 13
 * and 30 February included. By hand, because this is what nearly every event carries.
 */
export function parseRfc3339(text: string): number | undefined {
  if (text.length < 20 || text.length > TIME_CHARS_MAX) return undefined;
  if (text.charCodeAt(4) !== DASH || text.charCodeAt(7) !== DASH) return undefined;
  if (text.charCodeAt(13) !== COLON || text.charCodeAt(16) !== COLON) return undefined;
  const between = text.charCodeAt(10);
  if ((between | SPACE) !== 0x74 && between !== SPACE) return undefined;
  let [at, micros] = [19, 0];
  if (text.charCodeAt(at) === DOT) {
    at++;
    for (let unit = 100_000; isDigit(text.charCodeAt(at)); unit = unit > 1 ? unit / 10 : 0, at++) {
      micros += (text.charCodeAt(at) - ZERO) * unit;
    }
    if (at === 20) return undefined;
  }
  const offsetSeconds = offsetAt(text, at);
  if (offsetSeconds === undefined) return undefined;
  const year = twoDigits(text, 0) * 100 + twoDigits(text, 2);
  const [month, day, hour] = [twoDigits(text, 5), twoDigits(text, 8), twoDigits(text, 11)];
  const civil = { year, month, day, hour, minute: twoDigits(text, 14), second: twoDigits(text, 17) };
  const seconds = civilSeconds(civil, offsetSeconds);
  // NaN: a letter in the year.
  return seconds === undefined || Number.isNaN(seconds) ? undefined : seconds * 1e6 + micros;
}

/** Seconds east of UTC of what ends the text at `at`: Z or an offset with hours and minutes. */
function offsetAt(text: string, at: number): number | undefined {
  const sign = text.charCodeAt(at);
  if ((sign | SPACE) === 0x7a) return at + 1 === text.length ? 0 : undefined;
  if ((sign !== PLUS && sign !== DASH) || text.charCodeAt(at + 3) !== COLON || at + 6 !== text.length) return undefined;
  const [hours, minutes] = [twoDigits(text, at + 1), twoDigits(text, at + 4)];
  if (!(hours <= 23 && minutes <= 59)) return undefined;
  return (hours * 3600 + minutes * 60) * (sign === DASH ? -1 : 1);
}

function twoDigits(text: string, at: number): number {
  const [tens, ones] = [text.charCodeAt(at), text.charCodeAt(at + 1)];
  return isDigit(tens) && isDigit(ones) ? (tens - ZERO) * 10 + ones - ZERO : Number.NaN;
}

function isDigit(code: number): boolean {
  return code >= ZERO && code <= ZERO + 9;
}

/**
 * A time in one of the forms of docs/times.md, as microseconds (further digits are cut); undefined for anything else. A
 * text that names no zone is UTC, wherever the process runs. An IANA zone is taken only beside an offset.
 */
export function parseDateText(text: string): number | undefined {
  const us = parseRfc3339(text);
  if (us !== undefined || text.length > TIME_CHARS_MAX) return us;
  const time = readTimeText(text.trim());
  if (typeof time === "string" || (time.place !== "" && time.offsetSeconds === undefined)) return undefined;
  const seconds = civilSeconds(time, time.offsetSeconds ?? 0);
  return seconds === undefined ? undefined : seconds * 1e6 + Math.floor(time.nanos / 1000);
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
