// What was prepared of a range, into its tables: retried while ClickHouse is away, never sent after the range went to
// another owner. An attempt that had no answer may have landed, and ClickHouse forgets its token after the next 10,000
// inserts of all partitions, which may be minutes: so before the rows are sent again it is asked whether they are there.
import { setTimeout as pause } from "node:timers/promises";
import type { Assignment } from "#lib/eventlog/log.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { Marker, MarkerKeeper } from "#lib/ledger/marker.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRow, OUTCOME_COLUMNS, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import type { Fate, StoredOffsets } from "#lib/ledger/stored.ts";
import type { RowTable } from "#lib/ledger/stored-topics.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import { type InsertOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { PartitionWait } from "./batch-wait.ts";
import { BreakerOpenError } from "./breaker.ts";
import { PartitionHaltedError } from "./halted.ts";
import type { ConsumerMetrics } from "./metrics.ts";
import { askPatiently, insertPatiently } from "./patience.ts";
import type { DeadLetter, Prepared } from "./prepare.ts";

/** An insert begins at most this long after its marker was acknowledged. */
export const INSERT_DEADLINE_MS = 10_000;
/** After an insert was acknowledged without its rows showing up, it is sent this many times under other tokens. */
export const REPAIR_ROUNDS_MAX = 4;
/** Time for an insert whose answer was lost to show its part, before its rows are taken for missing. */
const SETTLE_MS = 2000;

export interface InsertDeps {
  assignment: Assignment;
  origin: RowOrigin;
  warehouse: Warehouse;
  table: RowTable;
  stored: StoredOffsets;
  markers: MarkerKeeper;
  metrics: ConsumerMetrics;
  wait: Pick<PartitionWait, "insertBegins" | "insertEnds">;
  clock: Clock;
  logger: Logger;
}

export interface InsertResult {
  /** An attempt ended without an answer: what it sent may be stored, or half stored. */
  isDoubtful: boolean;
  /** The last attempt's answer, when it was a refusal. */
  refused?: WarehouseError;
}

interface Insertion {
  table: string;
  columns: readonly string[];
  rows: Uint8Array;
  token: string;
  range: Marker;
  /** Whether something of it is stored. One insert is one block, so then all of it is, or is being looked into. */
  isThere(): Promise<boolean>;
}

type FatesByOffset = ReadonlyMap<number, Fate>;

export interface Inserter {
  /** `known`: what was stored of the range before. */
  insertRows(prepared: Prepared, token: string, range: Marker, known?: FatesByOffset): Promise<InsertResult>;
  /** `isRepeated`: an insert under this token may have been sent before, by whomever. */
  insertOutcomes(prepared: Prepared, token: string, range: Marker, isRepeated: boolean): Promise<InsertResult>;
  /** Asks ClickHouse, for as long as it is away. */
  retrying<T>(ask: () => Promise<T>): Promise<T>;
  /** Asks again after some time when the first answer will not do: a part may show itself after its token. */
  askTwice<T>(ask: () => Promise<T>, isEnough: (answer: T) => boolean): Promise<T>;
}

export function createInserter(deps: InsertDeps): Inserter {
  const { assignment, origin, warehouse, stored, markers, metrics, logger } = deps;

  async function insertRows(
    { rowCount, rows }: Prepared,
    token: string,
    range: Marker,
    known?: FatesByOffset,
  ): Promise<InsertResult> {
    if (rowCount === 0) return { isDoubtful: false };
    const { name: table, columns } = deps.table;
    // A row that was erased meanwhile had landed.
    const isThere = () => isAnyStored(range, (fate, offset) => isRow(fate) && !known?.has(offset));
    return insert({ table, columns, rows, token, range, isThere });
  }

  async function isAnyStored({ from, to }: Marker, isNew: (fate: Fate, offset: number) => boolean): Promise<boolean> {
    const { byOffset } = await stored.fates(from, to);
    return [...byOffset].some(([offset, fate]) => isNew(fate, offset));
  }

  /** Letters before outcomes: an outcome "dead_letter" means that the bytes are there. */
  async function insertOutcomes(
    { deadLetters, outcomes }: Prepared,
    token: string,
    range: Marker,
    isRepeated: boolean,
  ): Promise<InsertResult> {
    if (outcomes.length === 0) return { isDoubtful: false };
    if (deadLetters.length > 0) {
      const letters = await insertLetters(deadLetters, token, range, isRepeated);
      if (letters.refused) return letters;
    }
    const rows = Buffer.concat(outcomes.map((one) => outcomeRow(origin, one, one.outcome, one.detail)));
    const offsets = new Set(outcomes.map(({ offset }) => offset));
    const isThere = () => isAnyStored(range, (fate, offset) => fate !== "row" && offsets.has(offset));
    return insert({ table: "log_outcomes", columns: OUTCOME_COLUMNS, rows, token, range, isThere });
  }

  async function insertLetters(
    letters: readonly DeadLetter[],
    token: string,
    range: Marker,
    isRepeated: boolean,
  ): Promise<InsertResult> {
    let missing = letters;
    let isDoubtful = isRepeated;
    for (let round = 0; ; round++) {
      if (isDoubtful) {
        missing = await missingLetters(missing, range, round > 0);
        if (missing.length === 0) return { isDoubtful };
      }
      if (round > REPAIR_ROUNDS_MAX) break;
      const rows = Buffer.concat(
        missing.map(({ record, errorClass, error }) => deadLetterRow(origin, record, errorClass, error)),
      );
      const insertion = { table: "dead_letters", columns: DEAD_LETTER_COLUMNS, rows, range };
      const wanted = missing;
      const isThere = async () => {
        const present = await stored.deadLetters(range.from, range.to);
        return wanted.some(({ record }) => present.has(record.offset));
      };
      const result = await insert({ ...insertion, token: round === 0 ? token : `${token}:d${round}`, isThere });
      if (result.refused) return result;
      isDoubtful ||= result.isDoubtful;
      if (!isDoubtful) return result;
    }
    throw new PartitionHaltedError(
      `${origin.topic}/${origin.partition}: dead letters of offsets ${range.from} to ${range.to} do not arrive in ` +
        "ClickHouse although it answers; check its disk and log, then restart the consumer",
    );
  }

  async function missingLetters(
    letters: readonly DeadLetter[],
    range: Marker,
    isSent: boolean,
  ): Promise<readonly DeadLetter[]> {
    const isMissing = (present: ReadonlySet<number>) => (letter: DeadLetter) => !present.has(letter.record.offset);
    const present = await askTwice(
      () => stored.deadLetters(range.from, range.to),
      (offsets) => !isSent || !letters.some(isMissing(offsets)),
    );
    return letters.filter(isMissing(present));
  }

  async function insert({ range, isThere, ...insertion }: Insertion): Promise<InsertResult> {
    let [doubtful, unanswered] = [0, 0];
    const attempt = async () => {
      if (unanswered > 0 && (await hasLandedMeanwhile(range, isThere))) return;
      await markers.refresh(range, INSERT_DEADLINE_MS);
      try {
        await send({ ...insertion, signal: assignment.lost });
      } catch (error) {
        // What met the open breaker was not sent.
        const isSent = !(error instanceof BreakerOpenError);
        if (isSent && error instanceof WarehouseError && error.kind === "transient") {
          doubtful++;
          // An exception is an answer: the same token holds it. Asking each time would also keep the breaker closed.
          if (error.code === undefined || error.isTimeout) unanswered++;
        }
        throw error;
      }
    };
    try {
      await insertPatiently(attempt, { signal: assignment.lost, logger });
      return { isDoubtful: doubtful > 0 };
    } catch (error) {
      if (!(error instanceof WarehouseError)) throw error;
      return { isDoubtful: doubtful > 0, refused: error };
    }
  }

  /** False: nothing of it was there a moment ago, and the partition is still ours. */
  async function hasLandedMeanwhile(range: Marker, isThere: () => Promise<boolean>): Promise<boolean> {
    for (;;) {
      // A refused question is no refusal of the rows.
      if (await retrying(isThere)) return true;
      const answered = deps.clock.monotonicMs();
      await markers.refresh(range, INSERT_DEADLINE_MS);
      // The log made us wait: what was on its way may have landed meanwhile, and its token may be forgotten.
      if (deps.clock.monotonicMs() - answered <= INSERT_DEADLINE_MS) return false;
    }
  }

  async function send(insertion: InsertOptions): Promise<void> {
    const begun = deps.clock.monotonicMs();
    try {
      deps.wait.insertBegins();
      await warehouse.insert(insertion);
      deps.wait.insertEnds();
    } catch (error) {
      deps.wait.insertEnds(error);
      const kind = error instanceof WarehouseError ? error.kind : "unknown";
      if (!(error instanceof BreakerOpenError)) metrics.insertErrors.inc({ kind });
      throw error;
    }
    metrics.insertSeconds.observe((deps.clock.monotonicMs() - begun) / 1000);
  }

  async function askTwice<T>(ask: () => Promise<T>, isEnough: (answer: T) => boolean): Promise<T> {
    const answer = await retrying(ask);
    if (isEnough(answer)) return answer;
    await pause(SETTLE_MS, undefined, { signal: assignment.lost });
    return retrying(ask);
  }

  function retrying<T>(ask: () => Promise<T>): Promise<T> {
    return askPatiently(ask, { signal: assignment.lost, logger });
  }

  return { insertRows, insertOutcomes, retrying, askTwice };
}

function isRow(fate: Fate): boolean {
  return fate === "row" || fate === "erased";
}
