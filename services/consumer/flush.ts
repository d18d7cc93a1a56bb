// One range [from, to] of a partition into ClickHouse, exactly once: marker, insert under a token, commit.
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import type { Assignment, StoredRecord } from "#lib/eventlog/log.ts";
import { EVENT_COLUMNS, type RowOrigin } from "#lib/events/row.ts";
import type { Clock } from "#lib/runtime/clock.ts";
import { retryForever } from "#lib/runtime/retry.ts";
import { type InsertOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { IdWindow } from "./id-window.ts";
import type { Marker, MarkerKeeper } from "./marker.ts";
import type { ConsumerMetrics } from "./metrics.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRows, OUTCOME_COLUMNS, outcomeRows } from "./outcome-rows.ts";
import type { DeadLetter, Prepared, Preparer, Refusal } from "./prepare.ts";
import type { Fate, Fates, StoredOffsets } from "./stored.ts";

/** An insert begins at most this long after its marker was acknowledged. */
const INSERT_DEADLINE_MS = 10_000;
/** One insert must stay one block (docs/design.md, "Exactly once"). Escapes can make rows longer than their records. */
const INSERT_BYTES_MAX = 8_000_000;
const RETRY_BASE_MS = 200;
const RETRY_CAP_MS = 15_000;
const REPAIR_ROUNDS_MAX = 4;
/** Time for an insert whose answer was lost to show its part, before its rows are taken for missing. */
const SETTLE_MS = 2000;

/** The partition cannot go on without somebody's decision; the message ends with the remedy. */
export class PartitionHaltedError extends Error {
  override readonly name = "PartitionHaltedError";
}

export interface FlushDeps {
  assignment: Assignment;
  origin: RowOrigin;
  warehouse: Warehouse;
  stored: StoredOffsets;
  preparer: Preparer;
  window: IdWindow;
  markers: MarkerKeeper;
  metrics: ConsumerMetrics;
  clock: Clock;
  logger: Logger;
}

export interface Flusher {
  /** Stores consecutive records of which nothing is stored, and commits the offset after them. */
  flush(records: readonly StoredRecord[]): Promise<void>;
  /**
   * The same for records that may be stored in part, or whole, or are being stored by an insert nobody waits for any more:
   * ClickHouse is asked before, so that nothing is stored twice, and after, because an acknowledged token may hide a loss.
   */
  settle(records: readonly StoredRecord[]): Promise<void>;
}

interface InsertResult {
  /** An attempt ended without an answer: what it sent may be stored, or half stored. */
  isDoubtful: boolean;
  /** The last attempt's answer, when it was a refusal. */
  refused?: WarehouseError;
}

export function createFlusher(deps: FlushDeps): Flusher {
  const { assignment, origin, warehouse, stored, preparer, markers, metrics, logger } = deps;

  async function flush(records: readonly StoredRecord[], refusal?: Refusal): Promise<void> {
    const range = rangeOf(records);
    const prepared = await retrying(() => preparer.prepare(records, { refusal }));
    if (records.length > 1 && isTooLarge(prepared)) return inHalves(records, flush);
    await markers.set(range);
    const rows = await insertRows(prepared, tokenOf(range), range);
    if (rows.refused && !rows.isDoubtful) {
      logger.warn({ ...range, err: rows.refused }, "rows refused by ClickHouse");
      if (records.length > 1) return inHalves(records, flush);
      return flush(records, refusalOf(rows.refused));
    }
    const outcomes = rows.refused ? rows : await insertOutcomes(prepared, tokenOf(range), range, false);
    if (rows.isDoubtful || outcomes.isDoubtful || outcomes.refused) return settle(records, refusal);
    const fates = [["row", prepared.rowCount] as const, ...tally(prepared.outcomes.map(({ outcome }) => outcome))];
    await finish(range, prepared, fates);
  }

  async function settle(records: readonly StoredRecord[], refusal?: Refusal): Promise<void> {
    const range = rangeOf(records);
    let verdict = refusal;
    await markers.set(range);
    for (let round = 0; round <= REPAIR_ROUNDS_MAX; ) {
      const fates = await fatesOf(range, round > 0);
      const part = await retrying(() => preparer.prepare(records, { fates, refusal: verdict }));
      if (fates.size === records.length) return finish(range, part, tally(fates.values()));
      if (records.length > 1 && isTooLarge(part)) return inHalves(records, settle);
      if (round > 0) logger.warn({ ...range, missing: records.length - fates.size, round }, "repairing a range");
      // The range's own token first: an insert of it that is still under way somewhere must not land beside this one.
      const token = round === 0 ? tokenOf(range) : `${tokenOf(range)}:r${round}`;
      const rows = await insertRows(part, token, range);
      const { refused } = rows.refused ? rows : await insertOutcomes(part, token, range, true);
      if (!refused) {
        round++;
        continue;
      }
      logger.warn({ ...range, err: refused }, "range refused by ClickHouse");
      if (records.length > 1) return inHalves(records, settle);
      if (verdict) break;
      verdict = refusalOf(refused);
    }
    throw new PartitionHaltedError(
      `${origin.topic}/${origin.partition}: offsets ${range.from} to ${range.to} do not arrive in ClickHouse although ` +
        "it answers; check its disk and log and run `millrace verify`, then restart the consumer",
    );
  }

  async function fatesOf({ from, to }: Marker, isRepeated: boolean): Promise<ReadonlyMap<number, Fate>> {
    const isWhole = ({ byOffset }: Fates) => !isRepeated || byOffset.size > to - from;
    const { byOffset, surplus } = await askTwice(() => stored.fates(from, to), isWhole);
    if (surplus > 0) logger.error({ from, to, surplus }, "offsets are stored more than once; run millrace verify");
    return byOffset;
  }

  /** Asks again after some time when the first answer will not do: a part may show itself after its token. */
  async function askTwice<T>(ask: () => Promise<T>, isEnough: (answer: T) => boolean): Promise<T> {
    const answer = await retrying(ask);
    if (isEnough(answer)) return answer;
    await pause(SETTLE_MS, undefined, { signal: assignment.lost });
    return retrying(ask);
  }

  async function insertRows({ rowCount, rows }: Prepared, token: string, range: Marker): Promise<InsertResult> {
    if (rowCount === 0) return { isDoubtful: false };
    return insert("events_raw", EVENT_COLUMNS, rows, token, range);
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
    return insert("log_outcomes", OUTCOME_COLUMNS, outcomeRows(origin, outcomes), token, range);
  }

  async function insertLetters(
    letters: readonly DeadLetter[],
    token: string,
    range: Marker,
    isRepeated: boolean,
  ): Promise<InsertResult> {
    let missing = letters;
    for (let round = 0; round <= REPAIR_ROUNDS_MAX; round++) {
      const ownToken = round === 0 ? token : `${token}:d${round}`;
      const rows = deadLetterRows(origin, missing);
      const result = await insert("dead_letters", DEAD_LETTER_COLUMNS, rows, ownToken, range);
      if (result.refused || (round === 0 && !isRepeated && !result.isDoubtful)) return result;
      const expected = missing;
      const present = await askTwice(
        () => stored.deadLetters(range.from, range.to),
        (offsets) => expected.every(({ record }) => offsets.has(record.offset)),
      );
      missing = expected.filter(({ record }) => !present.has(record.offset));
      if (missing.length === 0) return result;
    }
    throw new PartitionHaltedError(
      `${origin.topic}/${origin.partition}: dead letters of offsets ${range.from} to ${range.to} do not arrive in ` +
        "ClickHouse although it answers; check its disk and log, then restart the consumer",
    );
  }

  async function insert(
    table: string,
    columns: readonly string[],
    rows: Uint8Array,
    token: string,
    range: Marker,
  ): Promise<InsertResult> {
    let attempts = 0;
    try {
      await retrying(async () => {
        attempts++;
        await markers.refresh(range, INSERT_DEADLINE_MS);
        await send({ table, columns, rows, token, signal: assignment.lost });
      });
      return { isDoubtful: attempts > 1 };
    } catch (error) {
      if (!(error instanceof WarehouseError)) throw error;
      return { isDoubtful: attempts > 1, refused: error };
    }
  }

  async function send(insertion: InsertOptions): Promise<void> {
    const begun = deps.clock.monotonicMs();
    try {
      await warehouse.insert(insertion);
    } catch (error) {
      metrics.insertErrors.inc({ kind: error instanceof WarehouseError ? error.kind : "unknown" });
      throw error;
    }
    metrics.insertSeconds.observe((deps.clock.monotonicMs() - begun) / 1000);
  }

  async function finish(range: Marker, { ids }: Prepared, fates: Iterable<readonly [Fate, number]>): Promise<void> {
    await markers.clear(range.to + 1);
    for (const { id, offset, appendTimeMs } of ids) deps.window.add(id, offset, appendTimeMs);
    metrics.countStored(fates);
  }

  function retrying<T>(attempt: () => Promise<T>): Promise<T> {
    return retryForever(attempt, {
      signal: assignment.lost,
      baseMs: RETRY_BASE_MS,
      capMs: RETRY_CAP_MS,
      isTransient: (error) => error instanceof WarehouseError && error.kind === "transient",
      onRetry({ attempt: n, delayMs, error }) {
        logger.warn({ attempt: n, delayMs, err: error }, "ClickHouse unavailable, retrying");
      },
    });
  }

  function tokenOf({ from, to }: Marker): string {
    return `${origin.epoch}:${origin.topic}:${origin.partition}:${from}-${to}`;
  }

  return { flush: (records) => flush(records), settle: (records) => settle(records) };
}

function rangeOf(records: readonly StoredRecord[]): Marker {
  return { from: (records[0] as StoredRecord).offset, to: (records.at(-1) as StoredRecord).offset };
}

async function inHalves(
  records: readonly StoredRecord[],
  store: (half: readonly StoredRecord[]) => Promise<void>,
): Promise<void> {
  const middle = records.length >> 1;
  await store(records.slice(0, middle));
  await store(records.slice(middle));
}

function isTooLarge({ rows, deadLetters }: Prepared): boolean {
  let letterBytes = 0;
  // Base64 makes four characters of three bytes.
  for (const { record } of deadLetters) letterBytes += ((record.key.length + record.value.length) * 4) / 3 + 256;
  return Math.max(rows.length, letterBytes) > INSERT_BYTES_MAX;
}

function refusalOf(error: WarehouseError): Refusal {
  const { cause } = error;
  return {
    errorClass: `clickhouse_${error.code ?? "refused"}`,
    error: cause instanceof Error ? cause.message : error.message,
  };
}

function tally(fates: Iterable<Fate>): Map<Fate, number> {
  const counts = new Map<Fate, number>();
  for (const fate of fates) counts.set(fate, (counts.get(fate) ?? 0) + 1);
  return counts;
}
