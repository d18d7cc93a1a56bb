// `override <seconds> <name>:<interval>,…`: for so long, collect these more often. Both numbers are whole seconds.

export interface Override {
  seconds: number;
  /** Seconds by collector name; at least one. */
  intervals: ReadonlyMap<string, number>;
}

export const OVERRIDE_SECONDS_MAX = 86_400;
export const OVERRIDE_INTERVAL_SECONDS_MAX = 3_600;

/** What follows the word `override`; undefined when it cannot be meant. */
export function parseOverride(text: string): Override | undefined {
  const space = text.indexOf(" ");
  const seconds = wholeSeconds(text.slice(0, Math.max(0, space)), OVERRIDE_SECONDS_MAX);
  if (seconds === undefined) return undefined;
  const intervals = new Map<string, number>();
  for (const entry of text.slice(space + 1).split(",")) {
    const colon = entry.lastIndexOf(":");
    const interval = wholeSeconds(entry.slice(colon + 1), OVERRIDE_INTERVAL_SECONDS_MAX);
    if (colon < 1 || interval === undefined) return undefined;
    intervals.set(entry.slice(0, colon), interval);
  }
  return { seconds, intervals };
}

/** The whole command without LF. No name may contain a comma. */
export function formatOverride({ seconds, intervals }: Override): string {
  return `override ${seconds} ${Array.from(intervals, ([name, interval]) => `${name}:${interval}`).join()}`;
}

function wholeSeconds(text: string, max: number): number | undefined {
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  return seconds >= 1 && seconds <= max ? seconds : undefined;
}
