// Records of a contiguous range → what each of them becomes: a row, a duplicate, a conflict, a dead letter. Here, those of
// events.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { createRecordScanner, FIELD, type RecordScanner } from "#lib/events/record-scanner.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { createRowWriter } from "#lib/events/row-writer.ts";
import { createConflictFinder, type Repeat } from "#lib/ledger/conflicts.ts";
import { createFirstPositions, type Positions } from "#lib/ledger/first-position.ts";
import { type IdWindow, type Moment, windowId } from "#lib/ledger/id-window.ts";
import type { Fate, StoredOffsets } from "#lib/ledger/stored.ts";
import { isIdentityEvent } from "./identity/record-facts.ts";

/** Why an offset is no row. */
export interface Outcome {
  offset: number;
  appendTimeMs: number;
  outcome: "duplicate" | "conflict" | "dead_letter" | "aborted";
  detail: string;
}

export interface DeadLetter {
  record: StoredRecord;
  errorClass: string;
  error: string;
}

/** A range ready to be stored: each of its offsets that is not stored yet is in exactly one of rows and outcomes. */
export interface Prepared {
  rowCount: number;
  /** JSONCompactEachRow of the table's columns. */
  rows: Uint8Array;
  outcomes: Outcome[];
  deadLetters: DeadLetter[];
  /** Caller-made ids of the rows, those stored already among them, for the window once all are stored. */
  ids: { id: string; offset: number; appendTimeMs: number }[];
  /** Records of the rows, those stored already among them, that may say something about identity. */
  identity: StoredRecord[];
}

/** What is known of a range beyond its records. */
export interface Known {
  /** What its offsets are already. They are left as they are, and the others are decided in view of them. */
  fates?: ReadonlyMap<number, Fate> | undefined;
  /** By offset: records whose rows ClickHouse never takes, and that are dead letters therefore. */
  refusals?: ReadonlyMap<number, Refusal> | undefined;
}

export interface Refusal {
  errorClass: string;
  error: string;
}

export interface Preparer {
  prepare(records: readonly StoredRecord[], known?: Known): Promise<Prepared>;
}

interface Decided {
  prepared: Prepared;
  repeats: Repeat[];
}

export function createEventPreparer(origin: RowOrigin, window: IdWindow, stored: StoredOffsets): Preparer {
  const event = createRecordScanner();
  const writer = createRowWriter(origin);
  const first = createFirstPositions(origin, window, stored);
  const markConflicts = createConflictFinder(stored);

  async function prepare(records: readonly StoredRecord[], known: Known = {}): Promise<Prepared> {
    // Flagged records are rare, so that looking for them first would cost more than deciding twice.
    const decided = decide(records, known) ?? decide(records, known, await flaggedPositions(records, known));
    const { prepared, repeats } = decided as Decided;
    await markConflicts(repeats);
    return prepared;
  }

  /** Undefined when a record is flagged to be looked up and `earlier` is missing. */
  function decide(records: readonly StoredRecord[], known: Known, earlier?: Positions): Decided | undefined {
    const prepared = nothingPrepared();
    const repeats: Repeat[] = [];
    const own = new Map<string, StoredRecord>();
    writer.begin(sizeOf(records));
    for (const record of records) {
      const fate = known.fates?.get(record.offset);
      if (fate !== undefined && fate !== "row") continue;
      if (record.aborted !== undefined) {
        if (fate === undefined) addAborted(prepared, record);
        continue;
      }
      const poison = poisonOf(() => event.scan(record.value)) ?? known.refusals?.get(record.offset);
      if (poison) {
        if (fate === undefined) addDeadLetter(prepared, record, poison);
        continue;
      }
      const hasId = event.idFromCaller || event.checkStored;
      const id = hasId ? idOf(event) : "";
      if (hasId && fate === undefined) {
        if (event.checkStored && !earlier) return undefined;
        const earliest = first.of(id, record, own, event.checkStored ? earlier?.get(id) : undefined);
        if (earliest) {
          const outcome: Outcome = { ...momentOf(record), outcome: "duplicate", detail: earliest.place };
          prepared.outcomes.push(outcome);
          repeats.push({ record, first: earliest, outcome });
          continue;
        }
      }
      if (fate === undefined) {
        const unwritable = poisonOf(() => writer.add(event, record.offset, record.appendTimeMs));
        if (unwritable) {
          addDeadLetter(prepared, record, unwritable);
          continue;
        }
        prepared.rowCount++;
      }
      if (isIdentityEvent(event)) prepared.identity.push(record);
      if (!hasId) continue;
      own.set(id, record);
      if (event.idFromCaller) prepared.ids.push({ id, ...momentOf(record) });
    }
    prepared.rows = writer.take();
    return { prepared, repeats };
  }

  async function flaggedPositions(records: readonly StoredRecord[], { fates }: Known): Promise<Positions> {
    const flagged = new Map<string, string>();
    for (const record of records) {
      if (fates?.has(record.offset)) continue;
      if (poisonOf(() => event.scan(record.value)) || !event.checkStored) continue;
      flagged.set(idOf(event), uuidOf(event));
    }
    return first.lookUp(flagged);
  }

  return { prepare };
}

export function nothingPrepared(): Prepared {
  return { rowCount: 0, rows: new Uint8Array(0), outcomes: [], deadLetters: [], ids: [], identity: [] };
}

/** A record that nobody may read is no row, and no letter either. */
export function addAborted({ outcomes }: Prepared, record: StoredRecord): void {
  outcomes.push({ ...momentOf(record), outcome: "aborted", detail: record.aborted ?? "" });
}

/** Undefined when `read` went through; a record's own fault is a value here, every other error is thrown. */
export function poisonOf(read: () => void): Refusal | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    if (error instanceof PoisonRecordError) return { errorClass: "undecodable", error: error.message };
    throw error;
  }
}

function uuidOf({ bytes, starts, ends }: RecordScanner): string {
  return formatUuid(bytes.subarray(starts[FIELD.id], ends[FIELD.id]));
}

function idOf({ bytes, starts, ends }: RecordScanner): string {
  const apiKey = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString(
    "utf8",
    starts[FIELD.apiKey],
    ends[FIELD.apiKey],
  );
  return windowId(bytes.subarray(starts[FIELD.id], ends[FIELD.id]), apiKey);
}

export function momentOf({ offset, appendTimeMs }: StoredRecord): Moment {
  return { offset, appendTimeMs };
}

export function addDeadLetter(prepared: Prepared, record: StoredRecord, { errorClass, error }: Refusal): void {
  prepared.deadLetters.push({ record, errorClass, error });
  prepared.outcomes.push({ ...momentOf(record), outcome: "dead_letter", detail: errorClass });
}

/** Room for the rows: a row has about 320 bytes more than its record, in position, times and punctuation. */
function sizeOf(records: readonly StoredRecord[]): number {
  let bytes = 0;
  let longest = 0;
  for (const { value } of records) {
    bytes += value.length + 320;
    longest = Math.max(longest, value.length);
  }
  // The writer grows, and copies, unless there is room for the worst case of the last row as well.
  return bytes + 6 * longest + 1024;
}
