// What becomes of a record that is missing from the tables: what the consumer would have made of it, or erased, for those
// that an erasure reaches.

import type { StoredRecord } from "#lib/eventlog/log.ts";
import { parseUuid } from "#lib/events/ids.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createErasures, type Erasure, ownerOf } from "#lib/identity/erasures.ts";
import type { IdentityFacts } from "#lib/identity/facts.ts";
import { createConflictFinder, type Repeat } from "#lib/ledger/conflicts.ts";
import type { First } from "#lib/ledger/first-position.ts";
import { windowId } from "#lib/ledger/id-window.ts";
import { deadLetterRow, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import { createStoredOffsets, type StoredOffsets } from "#lib/ledger/stored.ts";
import type { RowTable } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { createReader, type Reader, type Reading } from "./reading.ts";
import type { LogIdentity } from "./stored.ts";

/** "letter": a dead letter whose outcome is there, and only its bytes are not. */
export type FateKind = "row" | "duplicate" | "conflict" | "dead_letter" | "letter" | "erased" | "aborted";

export interface Fate {
  offset: number;
  appendTimeMs: number;
  kind: FateKind;
  /** JSONCompactEachRow line: of the topic's table for a row, of log_outcomes otherwise. */
  row: Uint8Array;
  /** Line of dead_letters, for a dead letter and for what it lacks. */
  letter?: Uint8Array;
  /** What a row says about identity. */
  facts?: IdentityFacts | undefined;
  /** The fate of the same record when ClickHouse refuses its row. */
  bury(errorClass: string, error: string): Fate;
}

export interface Classifier {
  /** Takes consecutive records of the partition, everything below the first of which is accounted for or lost. */
  classify(records: readonly StoredRecord[]): Promise<Fate[]>;
}

/**
 * A caller's id that is a row elsewhere makes the record a duplicate, however old that row is: it may be a retry whose
 * outcome was lost, and counting an event twice cannot be taken back, while its row is there already.
 */
export function createClassifier(
  warehouse: Warehouse,
  origin: LogIdentity & { partition: number },
  table: RowTable,
): Classifier {
  const read = createReader(origin);
  const { partition } = origin;
  const stored = createStoredOffsets(warehouse, origin, table);
  const markConflicts = createConflictFinder(stored);

  const outcome = (record: StoredRecord, kind: FateKind, detail: string): Fate => ({
    ...{ offset: record.offset, appendTimeMs: record.appendTimeMs },
    kind,
    row: outcomeRow(origin, record, kind, detail),
    bury: (errorClass, error) => bury(record, errorClass, error),
  });
  const bury = (record: StoredRecord, errorClass: string, error: string): Fate => ({
    ...outcome(record, "dead_letter", errorClass),
    letter: deadLetterRow(origin, record, errorClass, error),
  });

  return {
    async classify(records) {
      const erasures = await createErasures(warehouse).beyond(origin, records[0]?.offset ?? 0);
      const readings = records.map((record) => readOrFault(read, record));
      const ids = readings.map((reading) => (reading instanceof PoisonRecordError ? undefined : reading.id));
      const known = await placesOf(
        stored,
        origin,
        ids.filter((id) => id !== undefined),
      );
      const fates = records.map((record, index): Fate | Repeat => {
        const erasure = erasures.find((each) => reaches(each, partition, record));
        if (erasure) return outcome(record, "erased", erasure.id);
        if (record.aborted !== undefined) return outcome(record, "aborted", record.aborted);
        const reading = readings[index];
        if (reading === undefined || reading instanceof PoisonRecordError) {
          return bury(record, "undecodable", reading?.message ?? "");
        }
        const { id, apiKey, facts } = reading;
        if (id !== undefined) {
          const key = windowId(parseUuid(id) as Uint8Array, apiKey);
          const place = `${partition}:${record.offset}`;
          const first = known.get(key)?.find((each) => each.place !== place);
          if (first) return { record, first, outcome: { outcome: "duplicate" } };
          known.set(key, [{ place, record, position: { epoch: origin.epoch, partition, offset: record.offset } }]);
        }
        return {
          ...{ offset: record.offset, appendTimeMs: record.appendTimeMs },
          kind: "row",
          row: reading.row(),
          facts,
          bury: (errorClass: string, error: string) => bury(record, errorClass, error),
        };
      });
      const repeats = fates.filter((fate) => "first" in fate);
      if (origin.topic === EVENTS_TOPIC) await markConflicts(repeats);
      return fates.map((fate) =>
        "first" in fate ? outcome(fate.record, fate.outcome.outcome as FateKind, fate.first.place) : fate,
      );
    },
  };
}

/** A person who was erased does not come back from the log. */
function reaches({ ends, ownIds }: Erasure, partition: number, record: StoredRecord): boolean {
  if (record.offset >= (ends.get(partition) ?? 0)) return false;
  const owner = ownerOf(record);
  return owner !== undefined && ownIds.includes(owner);
}

function readOrFault(read: Reader, record: StoredRecord): Reading | PoisonRecordError {
  try {
    return read(record);
  } catch (error) {
    if (error instanceof PoisonRecordError) return error;
    throw error;
  }
}

/** Places of the rows with these ids, on whichever shard, by windowId: those of this epoch first, from the start on. */
async function placesOf(stored: StoredOffsets, { epoch }: LogIdentity, ids: readonly string[]) {
  const places = new Map<string, First[]>();
  const rank = (each: string) => (each === epoch ? "" : each);
  for (const [id, found] of await stored.positionsOf(ids)) {
    // Epochs are compared as ClickHouse does, by their bytes: none has a letter beyond ASCII.
    const sorted = found.toSorted((a, b) =>
      rank(a.epoch) < rank(b.epoch)
        ? -1
        : rank(a.epoch) > rank(b.epoch)
          ? 1
          : a.partition - b.partition || a.offset - b.offset,
    );
    const firsts = sorted.map((position) => {
      const { epoch: own, partition, offset } = position;
      return { place: `${own === epoch ? "" : `${own}:`}${partition}:${offset}`, record: undefined, position };
    });
    places.set(id, firsts);
  }
  return places;
}
