// A whole range of records, in as many reads as it takes.
import type { Assignment, StoredRecord } from "#lib/eventlog/log.ts";
import type { Marker } from "#lib/ledger/marker.ts";

const READ_BYTES = 4 * 1024 * 1024;
const READ_WAIT_MS = 500;

/** All records of the range, or as many of them as `bytesMax` takes; at least one. */
export async function readRange(
  assignment: Assignment,
  range: Marker,
  bytesMax = Number.POSITIVE_INFINITY,
): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  let bytes = 0;
  while (records.length <= range.to - range.from && (bytes < bytesMax || records.length === 0)) {
    const read = await assignment.read({
      from: range.from + records.length,
      maxRecords: range.to - range.from + 1 - records.length,
      maxBytes: READ_BYTES,
      maxWaitMs: READ_WAIT_MS,
    });
    for (const record of read) bytes += record.value.length;
    records.push(...read);
  }
  return records;
}
