// Gathers consecutive records of one partition until there are enough of them, or the oldest has waited long enough.
import type { Assignment, StoredRecord } from "#lib/eventlog/log.ts";
import type { Clock } from "#lib/process/clock.ts";

export interface BatchBounds {
  recordsMax: number;
  bytesMax: number;
  /** Asked again and again while a batch waits. */
  ageMsMax(): number;
}

/** What a row has beyond its record's value: names of position and times, quotes and commas. */
const ROW_OVERHEAD_BYTES = 320;

export interface Batcher {
  /**
   * Consecutive records from `from` on: as many as the bounds allow, or what has come within ageMsMax of the first.
   * Empty when `isStopping` says so, or nothing came within `idleMs`.
   */
  gather(from: number, idleMs: number, isStopping: () => boolean): Promise<StoredRecord[]>;
}

/** `onOldest` is called with the first record of a batch as soon as it is there. */
export function createBatcher(
  assignment: Assignment,
  bounds: BatchBounds,
  clock: Clock,
  onOldest: (record: StoredRecord) => void = () => {},
): Batcher {
  /** Read, but beyond the bounds of the batch before. */
  let surplus: StoredRecord[] = [];

  return {
    async gather(from, idleMs, isStopping) {
      const batch: StoredRecord[] = [];
      let bytes = 0;
      let begun = clock.monotonicMs();
      let incoming = surplus[0]?.offset === from ? surplus : [];
      surplus = [];
      for (;;) {
        for (let i = 0; i < incoming.length; i++) {
          const record = incoming[i] as StoredRecord;
          const size = record.value.length + ROW_OVERHEAD_BYTES;
          if (batch.length === bounds.recordsMax || (bytes + size > bounds.bytesMax && batch.length > 0)) {
            surplus = incoming.slice(i);
            return batch;
          }
          if (batch.length === 0) {
            begun = clock.monotonicMs();
            onOldest(record);
          }
          batch.push(record);
          bytes += size;
        }
        const left = batch.length === 0 ? idleMs : bounds.ageMsMax() - (clock.monotonicMs() - begun);
        if (left <= 0 || isStopping() || batch.length === bounds.recordsMax) return batch;
        incoming = await assignment.read({
          from: from + batch.length,
          maxRecords: bounds.recordsMax - batch.length,
          maxBytes: bounds.bytesMax,
          maxWaitMs: Math.min(left, READ_WAIT_MS_MAX),
        });
        if (incoming.length === 0 && batch.length === 0) return batch;
      }
    },
  };
}

/** A read ends at least this often, so that a stop or an age bound is seen in time. */
const READ_WAIT_MS_MAX = 500;
