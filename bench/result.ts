// What a case is given and what it hands back, and the rule all of them keep: rows are counted, never believed.

export interface Setting {
  /** A few seconds a case, to see that everything runs. */
  quick: boolean;
  /** How long a soak takes. */
  minutes?: number | undefined;
  /** Fires when the run is to end early; cases then clean up and reject with its reason. */
  signal: AbortSignal;
  progress(text: string): void;
}

/** A number the project has set itself. A missed target is reported; it is no failure, because machines differ. */
export interface Target {
  what: string;
  measured: number;
  /** The measured number must be below it, or for `atLeast` not below it. */
  limit: number;
  atLeast?: boolean;
}

/** Milliseconds. */
export interface Spread {
  p50: number;
  p99: number;
}

export interface Result {
  name: string;
  /** Events in the requests that were sent, or on the topic that was drained. */
  events: number;
  /** Events acknowledged. */
  acked: number;
  /** Counted on the log by its end offsets, or in ClickHouse by count(). */
  rows: number;
  /** From the first event to the end of the work that the case measures. */
  seconds: number;
  /** User and system time of the process under test, all threads, microseconds a row. */
  cpuUsPerEvent?: number;
  /** Highest resident set of the process under test, MB of 10^6 bytes. */
  rssMaxMb?: number;
  /** Cores taken by each part while the load was on. */
  cores?: Record<string, number> | undefined;
  /** What was asked again and again, by name. */
  spreads?: Record<string, Spread>;
  targets: Target[];
  note: string;
}

export type Case = (setting: Setting) => Promise<Result>;

/** Counted rows differ from what was acknowledged, or something answered as it must not. */
export class CaseFailedError extends Error {
  override readonly name = "CaseFailedError";
}

export function expectCounted(acked: number, rows: number): void {
  if (acked === 0) throw new CaseFailedError("nothing was acknowledged");
  if (acked !== rows) throw new CaseFailedError(`${acked} events acknowledged, ${rows} rows counted`);
}

export function isMet({ measured, limit, atLeast = false }: Target): boolean {
  return atLeast ? measured >= limit : measured < limit;
}
