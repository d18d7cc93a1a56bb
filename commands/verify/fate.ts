// What becomes of a record that is missing from the tables: the same three ends that the consumer knows, and a fourth for
// those that an erasure reaches.

import type { StoredRecord } from "#lib/eventlog/log.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { createErasures, type Erasure, ownerOf } from "#lib/identity/erasures.ts";
import type { IdentityFacts } from "#lib/identity/facts.ts";
import { deadLetterRow, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import type { RowTable } from "#lib/ledger/stored-topics.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { createReader, type Reader, type Reading } from "./reading.ts";
import type { LogIdentity } from "./stored.ts";

export type FateKind = "row" | "duplicate" | "dead_letter" | "erased";

export interface Fate {
  offset: number;
  appendTimeMs: number;
  kind: FateKind;
  /** JSONCompactEachRow line: of the topic's table for a row, of log_outcomes otherwise. */
  row: Uint8Array;
  /** Line of dead_letters, for a dead letter. */
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

const idsPerQuery = 1000;

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
      const known = await positionsOf(
        warehouse,
        origin,
        table,
        ids.filter((id) => id !== undefined),
      );
      return records.map((record, index) => {
        const erasure = erasures.find((each) => reaches(each, partition, record));
        if (erasure) return outcome(record, "erased", erasure.id);
        const reading = readings[index];
        if (reading === undefined || reading instanceof PoisonRecordError) {
          return bury(record, "undecodable", reading?.message ?? "");
        }
        const { id, apiKey, facts } = reading;
        if (id !== undefined) {
          const key = `${id} ${apiKey}`;
          const here = `${partition}:${record.offset}`;
          const first = known.get(key)?.find((place) => place !== here);
          if (first !== undefined) return outcome(record, "duplicate", first);
          known.set(key, [here]);
        }
        return {
          ...{ offset: record.offset, appendTimeMs: record.appendTimeMs },
          kind: "row",
          row: reading.row(),
          facts,
          bury: (errorClass: string, error: string) => bury(record, errorClass, error),
        };
      });
    },
  };
}

/** Whoever was erased does not come back from the log. */
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

/** Places of the rows with these ids, on whichever shard, by `id apiKey`: partition:offset, after the epoch when it is another one. */
async function positionsOf(
  warehouse: Warehouse,
  { epoch, topic }: LogIdentity,
  { name, apiKey }: RowTable,
  ids: readonly string[],
) {
  const sql = `SELECT concat(toString(uuid), ' ', ${apiKey}) AS key, log_epoch AS e, log_partition AS p, toString(log_offset) AS o
     FROM ${name} WHERE log_topic = {topic:String} AND uuid IN {ids:Array(UUID)}`;
  const found: { key: string; e: string; p: number; o: string }[] = [];
  for (let at = 0; at < ids.length; at += idsPerQuery) {
    const params = { topic, ids: ids.slice(at, at + idsPerQuery) };
    for (const shard of shardsOf(warehouse))
      found.push(...(await shard.query<(typeof found)[number]>(sql, { params })));
  }
  const rank = (each: string) => (each === epoch ? "" : each);
  // Epochs are compared as ClickHouse does, by their bytes: none has a letter beyond ASCII.
  found.sort((a, b) =>
    rank(a.e) < rank(b.e) ? -1 : rank(a.e) > rank(b.e) ? 1 : a.p - b.p || Number(a.o) - Number(b.o),
  );
  const places = new Map<string, string[]>();
  for (const { key, e, p, o } of found) {
    const place = `${e === epoch ? "" : `${e}:`}${p}:${o}`;
    places.set(key, [...(places.get(key) ?? []), place]);
  }
  return places;
}
