// Calendar and clock to seconds since 1970, by the Gregorian calendar in every year. Arithmetic only: the zone of the
// process has no part in it.

const DAY_SECONDS = 86_400;
/** Days from 0000-03-01 to 1970-01-01. */
const EPOCH_DAY = 719_468;
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

export interface CivilTime {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
}

/**
 * Seconds since 1970-01-01T00:00:00Z of a local time `offsetSeconds` east of UTC; undefined for a time that does not
 * exist. 24:00:00 does not: RFC 3339 has hours 00 to 23. Second 60 exists where leap seconds are, at 23:59 UTC on the last
 * day of a month, and counts as the second after it.
 */
export function civilSeconds(time: CivilTime, offsetSeconds: number): number | undefined {
  const { year, month, day, hour, minute, second } = time;
  const exists =
    month >= 1 &&
    month <= 12 &&
    day >= 1 &&
    day <= daysOfMonth(year, month) &&
    hour <= 23 &&
    minute <= 59 &&
    second <= 60;
  if (!exists) return undefined;
  const seconds = dayNumber(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offsetSeconds;
  return second === 60 && !beginsMonth(seconds) ? undefined : seconds;
}

/** 0 for Sunday. */
export function weekdayOf({ year, month, day }: CivilTime): number {
  // 1970-01-01 was a Thursday.
  return (((dayNumber(year, month, day) + 4) % 7) + 7) % 7;
}

function daysOfMonth(year: number, month: number): number {
  const isLeapYear = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && isLeapYear ? 29 : (MONTH_DAYS[month - 1] as number);
}

/** Days since 1970-01-01, counted in years that begin in March: the day that only leap years have is their last. */
function dayNumber(year: number, month: number, day: number): number {
  const marchYear = month > 2 ? year : year - 1;
  const marchMonth = (month + 9) % 12;
  const leapDays = Math.floor(marchYear / 4) - Math.floor(marchYear / 100) + Math.floor(marchYear / 400);
  return marchYear * 365 + leapDays + Math.floor((marchMonth * 153 + 2) / 5) + day - 1 - EPOCH_DAY;
}

function beginsMonth(seconds: number): boolean {
  return seconds % DAY_SECONDS === 0 && new Date(seconds * 1000).getUTCDate() === 1;
}
