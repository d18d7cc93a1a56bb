// Where on the log a time is: append times do not decrease along a partition, but for a step back of the broker's clock.
import { type LogReader, LogUnavailableError, OffsetOutOfRangeError, type PartitionBounds } from "#lib/eventlog/log.ts";

const READ_WAIT_MS = 5000;

/**
 * First offset of the partition below `end` that arrived at or after the time, milliseconds; `end` when none did. Rejects
 * with LogUnavailableError when the log does not say, since a guess would leave out what has to be proven.
 */
export async function firstArrivedSince(
  log: LogReader,
  topic: string,
  { partition, start }: PartitionBounds,
  end: number,
  sinceMs: number,
): Promise<number> {
  let low = Math.min(start, end);
  let high = end;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const arrivedMs = await arrivalOf(log, topic, partition, middle);
    if (arrivedMs === undefined) {
      throw new LogUnavailableError(
        `the log did not return offset ${middle} of ${topic}/${partition} in time: run it again`,
      );
    }
    if (arrivedMs >= sinceMs) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Undefined when the log does not answer in time; of a record that was trimmed meanwhile, the beginning of time. */
export async function arrivalOf(
  log: LogReader,
  topic: string,
  partition: number,
  offset: number,
): Promise<number | undefined> {
  try {
    const options = { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: READ_WAIT_MS };
    return (await log.tail(topic, partition, options))[0]?.appendTimeMs;
  } catch (error) {
    if (error instanceof OffsetOutOfRangeError) return Number.NEGATIVE_INFINITY;
    throw error;
  }
}
