// What a person sees while an import runs: a bar on a terminal, a line every five seconds elsewhere.

import { printable } from "#lib/process/printable.ts";
import { atMostEvery } from "#lib/process/waiting.ts";
import type { Progress } from "./checkpoint.ts";

export interface Display {
  /** Progress of the import, refused rows and all; cheap to call often. */
  update(progress: Readonly<Progress>): void;
  refused(place: string, reason: string): void;
  notice(text: string): void;
  /** As notice, but every few seconds at most: requests in flight together fail together. */
  retrying(text: string): void;
  /** Takes the bar away. */
  close(): void;
}

/** Where it writes to, and whether that is a terminal. */
export interface TextSink {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  /** Its width now. */
  columns?(): number | undefined;
}

const refusalsShownMax = 20;
const barMs = 200;
const lineMs = 5000;
const retryLineMs = 5000;
const barCells = 24;

/** `readFraction` is the share of the input read so far, undefined where its size is not known. */
export function createDisplay(sink: TextSink, readFraction: () => number | undefined, resumed: number): Display {
  const startedMs = performance.now();
  const isTerminal = sink.isTTY === true;
  let rows = resumed;
  let refusals = 0;
  const isRetryDue = atMostEvery(retryLineMs);
  let barShown = false;

  const clear = (): void => {
    if (barShown) sink.write("\r\u001b[2K");
    barShown = false;
  };
  const line = (text: string): void => {
    clear();
    // Names and values of a foreign file stand in it.
    sink.write(`${printable(text)}\n`);
  };
  const show = (): void => {
    const seconds = (performance.now() - startedMs) / 1000;
    const status = statusText(rows, (rows - resumed) / seconds, readFraction(), seconds);
    if (!isTerminal) {
      line(status);
      return;
    }
    clear();
    sink.write(status.slice(0, Math.max(20, (sink.columns?.() ?? 80) - 1)));
    barShown = true;
  };
  const timer = setInterval(show, isTerminal ? barMs : lineMs);
  timer.unref();

  return {
    update(progress) {
      rows = progress.imported + progress.refused;
    },
    refused(place, reason) {
      refusals += 1;
      if (refusals <= refusalsShownMax) line(`refused ${place}: ${reason}`);
      if (refusals === refusalsShownMax + 1) line("further refused rows are counted, not shown");
    },
    notice: line,
    retrying(text) {
      if (isRetryDue()) line(text);
    },
    close() {
      clearInterval(timer);
      clear();
    },
  };
}

/** One line: bar and share where the size is known, rows, rows a second, time left. */
export function statusText(rows: number, rate: number, fraction: number | undefined, seconds: number): string {
  const parts = [`${rows} lines`, `${Math.round(rate)}/s`];
  if (fraction === undefined) return parts.join("  ");
  const filled = Math.round(fraction * barCells);
  const bar = `[${"#".repeat(filled)}${".".repeat(barCells - filled)}] ${Math.floor(fraction * 100)} %`;
  // The share read in this run's time is what the remaining share will take; before the first answer nothing is known.
  const left = rate > 0 && fraction > 0 ? `${durationText((seconds / fraction) * (1 - fraction))} left` : "";
  return [bar, ...parts, left].filter((part) => part !== "").join("  ");
}

function durationText(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
