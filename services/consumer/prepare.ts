// Records of a contiguous range → what each of them becomes: a row, a duplicate, a dead letter.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord, PoisonRecordError } from "#lib/events/record.ts";
import { createEventRows, type EventRows, type RowOrigin } from "#lib/events/row.ts";
import { type IdWindow, windowId } from "./id-window.ts";
import type { StoredOffsets, StoredPosition } from "./stored.ts";

export type OutcomeKind = "duplicate" | "dead_letter";

/** Why an offset is no row. */
export interface Outcome {
  offset: number;
  appendTimeMs: number;
  outcome: OutcomeKind;
  detail: string;
}

export interface DeadLetter {
  record: StoredRecord;
  errorClass: string;
  error: string;
}

/** A range ready to be stored. Every one of its offsets is in exactly one of rows and outcomes. */
export interface Prepared {
  rowCount: number;
  /** JSONCompactEachRow of EVENT_COLUMNS. */
  rows: Uint8Array;
  outcomes: Outcome[];
  deadLetters: DeadLetter[];
  /** Caller-made ids of the rows, for the window once they are stored. */
  ids: { id: string; offset: number; appendTimeMs: number }[];
}

export interface Preparer {
  /**
   * Decides on every record. With `only`, what falls on other offsets is left out afterwards: a repair stores what is
   * missing, decided as it was in the whole range.
   */
  prepare(records: readonly StoredRecord[], only?: ReadonlySet<number>): Promise<Prepared>;
}

type Decoded = ReturnType<typeof decodeRecord>;

export function createPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer {
  const mapper = createEventRows(origin);

  async function prepare(records: readonly StoredRecord[], only?: ReadonlySet<number>): Promise<Prepared> {
    const decoded = records.map(decodeOrPoison);
    const earlier = await storedPositions(decoded);
    const prepared: Prepared = { rowCount: 0, rows: new Uint8Array(0), outcomes: [], deadLetters: [], ids: [] };
    const ownIds = new Map<string, number>();
    const rows = createRowBuffer(records);
    for (let i = 0; i < records.length; i++) {
      const record = records[i] as StoredRecord;
      const event = decoded[i] as Decoded | PoisonRecordError;
      const wanted = only === undefined || only.has(record.offset);
      if (event instanceof PoisonRecordError) {
        if (wanted) addDeadLetter(prepared, { record, errorClass: "undecodable", error: event.message });
        continue;
      }
      if (event.idFromCaller) {
        const id = windowId(formatUuid(event.id), event.apiKey);
        const first = firstPosition(id, record, ownIds, earlier);
        if (first !== undefined) {
          if (wanted) prepared.outcomes.push({ ...at(record), outcome: "duplicate", detail: first });
          continue;
        }
        ownIds.set(id, record.offset);
        prepared.ids.push({ id, ...at(record) });
      }
      if (!wanted) continue;
      rows.add(mapper, event, record);
      prepared.rowCount++;
    }
    prepared.rows = rows.bytes();
    return prepared;
  }

  function firstPosition(
    id: string,
    record: StoredRecord,
    ownIds: Map<string, number>,
    earlier: Map<string, StoredPosition[]> | undefined,
  ): string | undefined {
    const near = ownIds.get(id) ?? window.firstOffset(id, record.offset, record.appendTimeMs);
    if (near !== undefined) return `${origin.partition}:${near}`;
    // On a replay the record's own row may be among the stored ones; that is no other event.
    const far = earlier?.get(id)?.find((p) => p.partition !== origin.partition || p.offset < record.offset);
    return far && `${far.partition}:${far.offset}`;
  }

  async function storedPositions(decoded: readonly (Decoded | PoisonRecordError)[]) {
    const uuids: string[] = [];
    for (const event of decoded) {
      if (!(event instanceof PoisonRecordError) && event.checkStored && event.idFromCaller) {
        uuids.push(formatUuid(event.id));
      }
    }
    if (uuids.length === 0) return undefined;
    const found = new Map<string, StoredPosition[]>();
    for (let i = 0; i < uuids.length; i += IDS_PER_LOOKUP) {
      for (const [id, positions] of await stored.positionsOf(uuids.slice(i, i + IDS_PER_LOOKUP)))
        found.set(id, positions);
    }
    return found;
  }

  return { prepare };
}

const IDS_PER_LOOKUP = 1000;

function decodeOrPoison(record: StoredRecord): Decoded | PoisonRecordError {
  try {
    return decodeRecord(record.value);
  } catch (error) {
    if (error instanceof PoisonRecordError) return error;
    throw error;
  }
}

function at({ offset, appendTimeMs }: StoredRecord) {
  return { offset, appendTimeMs };
}

export function addDeadLetter(prepared: Prepared, letter: DeadLetter): void {
  prepared.deadLetters.push(letter);
  prepared.outcomes.push({ ...at(letter.record), outcome: "dead_letter", detail: letter.errorClass });
}

/** One growing buffer for a batch's rows; the row mapper's own view is reused with each row. */
function createRowBuffer(records: readonly StoredRecord[]) {
  let bytes = 0;
  for (const record of records) bytes += record.value.length + 320;
  let buffer = Buffer.allocUnsafe(bytes);
  let length = 0;
  return {
    add(mapper: EventRows, event: Decoded, record: StoredRecord): void {
      const row = mapper.row(event, record.offset, record.appendTimeMs);
      if (length + row.length > buffer.length) {
        buffer = Buffer.concat([buffer.subarray(0, length)], (length + row.length) * 2);
      }
      buffer.set(row, length);
      length += row.length;
    },
    bytes: () => buffer.subarray(0, length),
  };
}
