// How far a partition is behind its log. Measured beside the work, not by it: it matters most while the work is stuck.
import { setTimeout as pause } from "node:timers/promises";
import type { Assignment } from "#lib/eventlog/log.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { ConsumerMetrics } from "./metrics.ts";

/** Disposing ends the measuring and takes the partition's values away, which are another process' to report from now on. */
export interface LagWatch extends Disposable {
  /**
   * `next` is the first offset not stored; `waitingSinceMs` when its record was appended. Unless that is known, the log is
   * asked.
   */
  moved(next: number, waitingSinceMs?: number): void;
}

const INTERVAL_MS = 2000;

/** When the record at the offset was appended, milliseconds; undefined when the log does not say. */
export type ArrivedAt = (offset: number) => Promise<number | undefined>;

export function watchLag(
  assignment: Assignment,
  metrics: ConsumerMetrics,
  clock: Clock,
  arrivedAt: ArrivedAt,
): LagWatch {
  const labels = { topic: assignment.topic, partition: String(assignment.partition) };
  const stopped = new AbortController();
  const done = AbortSignal.any([stopped.signal, assignment.lost]);
  let position: { next: number; waitingSinceMs: number | undefined } | undefined;

  async function measure(): Promise<void> {
    if (!position) return;
    const { end } = await assignment.bounds();
    if (done.aborted) return;
    const measured = position;
    const records = Math.max(0, end - measured.next);
    metrics.lagRecords.set(labels, records);
    if (records > 0) measured.waitingSinceMs ??= await arrivedAt(measured.next);
    if (done.aborted || measured !== position) return;
    const { waitingSinceMs } = measured;
    if (records === 0) metrics.lagSeconds.set(labels, 0);
    // Records wait, and nobody knows since when: no value is better than one that says they do not.
    else if (waitingSinceMs === undefined) metrics.lagSeconds.remove(labels);
    else metrics.lagSeconds.set(labels, Math.max(0, clock.nowMs() - waitingSinceMs) / 1000);
  }

  async function watch(): Promise<void> {
    while (!done.aborted) {
      try {
        await measure();
        await pause(INTERVAL_MS, undefined, { signal: done });
      } catch {
        // The log is away, or the partition lost: the partition's own calls meet the same and report it.
        if (!done.aborted) await pause(INTERVAL_MS);
      }
    }
  }

  void watch();
  return {
    moved(next, waitingSinceMs) {
      position = { next, waitingSinceMs };
    },
    [Symbol.dispose]() {
      stopped.abort();
      metrics.lagRecords.remove(labels);
      metrics.lagSeconds.remove(labels);
    },
  };
}
