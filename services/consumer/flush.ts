// One range [from, to] of a partition into ClickHouse, exactly once: marker, insert under a token, commit.
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import type { Assignment, StoredRecord } from "#lib/eventlog/log.ts";
import { EVENT_COLUMNS, type RowOrigin } from "#lib/events/row.ts";
import type { Clock } from "#lib/runtime/clock.ts";
import { retryForever } from "#lib/runtime/retry.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { IdWindow } from "./id-window.ts";
import type { Marker, MarkerKeeper } from "./marker.ts";
import type { ConsumerMetrics } from "./metrics.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRows, OUTCOME_COLUMNS, outcomeRows } from "./outcome-rows.ts";
import { addDeadLetter, type Prepared, type Preparer } from "./prepare.ts";
import type { StoredOffsets } from "./stored.ts";

/** An insert begins at most this long after its marker was acknowledged. */
export const INSERT_DEADLINE_MS = 10_000;
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
  /**
   * Stores consecutive records read under the assignment and commits the offset after them. A replay (the range was in
   * flight when its last owner went away) is counted in ClickHouse before it is committed.
   */
  flush(records: readonly StoredRecord[], isReplay: boolean): Promise<void>;
  /** The range may be stored in part, or whole: stores what is missing of it and commits the offset after it. */
  reconcile(records: readonly StoredRecord[]): Promise<void>;
}

export function createFlusher(deps: FlushDeps): Flusher {
  const { assignment, origin, warehouse, stored, markers, metrics, logger } = deps;
  const prefix = `${origin.epoch}:${origin.topic}:${origin.partition}`;

  async function flush(records: readonly StoredRecord[], isReplay: boolean): Promise<void> {
    const range = rangeOf(records);
    await markers.set(range);
    const prepared = await retrying(() => deps.preparer.prepare(records));
    try {
      const isAmbiguous = await store(prepared, `${prefix}:${range.from}-${range.to}`, range);
      if (isReplay || isAmbiguous) await repairMissing(records, range);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (records.length === 1) return bury(records[0] as StoredRecord, error);
      logger.warn({ ...range, code: error.code, kind: error.kind }, "range refused by ClickHouse, splitting it");
      for (const half of halves(records)) await flush(half, isReplay);
      return;
    }
    await finish(range, prepared);
  }

  async function reconcile(records: readonly StoredRecord[]): Promise<void> {
    const range = { ...rangeOf(records), partial: true };
    await markers.set(range);
    try {
      await repairMissing(records, range);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (records.length === 1) return bury(records[0] as StoredRecord, error);
      for (const half of halves(records)) await reconcile(half);
      return;
    }
    await finish(range, await retrying(() => deps.preparer.prepare(records)));
  }

  /** A record that ClickHouse will never take, byte for byte and with the reason. */
  async function bury(record: StoredRecord, error: WarehouseError): Promise<void> {
    const range = rangeOf([record]);
    const prepared: Prepared = { rowCount: 0, rows: new Uint8Array(0), outcomes: [], deadLetters: [], ids: [] };
    addDeadLetter(prepared, { record, errorClass: `clickhouse_${error.code ?? "refused"}`, error: error.message });
    logger.warn({ offset: record.offset, err: error }, "record refused by ClickHouse, dead-lettered");
    await store(prepared, `${prefix}:${range.from}-${range.to}`, range);
    await finish(range, prepared);
  }

  /** True when an attempt failed without an answer, so that the token may have hidden a loss. */
  async function store(prepared: Prepared, token: string, marker: Marker): Promise<boolean> {
    let attempts = 0;
    await retrying(async () => {
      attempts++;
      await markers.refresh(marker, INSERT_DEADLINE_MS);
      await insertAll(prepared, token);
    });
    return attempts > 1;
  }

  async function insertAll(prepared: Prepared, token: string): Promise<void> {
    const begun = deps.clock.monotonicMs();
    try {
      if (prepared.rowCount > 0) await insert("events_raw", EVENT_COLUMNS, prepared.rows, token);
      if (prepared.deadLetters.length > 0) {
        await insert("dead_letters", DEAD_LETTER_COLUMNS, deadLetterRows(origin, prepared), token);
      }
      if (prepared.outcomes.length > 0) {
        await insert("log_outcomes", OUTCOME_COLUMNS, outcomeRows(origin, prepared), token);
      }
    } catch (error) {
      metrics.insertErrors.inc({ kind: error instanceof WarehouseError ? error.kind : "unknown" });
      throw error;
    }
    metrics.insertSeconds.observe((deps.clock.monotonicMs() - begun) / 1000);
  }

  function insert(table: string, columns: readonly string[], rows: Uint8Array, token: string): Promise<void> {
    return warehouse.insert({ table, columns, rows, token, signal: assignment.lost });
  }

  /** ClickHouse writes a token before it shows the part: killed in between, it swallows the replay. Hence the count. */
  async function repairMissing(records: readonly StoredRecord[], range: Marker): Promise<void> {
    for (let round = 1; round <= REPAIR_ROUNDS_MAX; round++) {
      if (await isWhole(range)) return;
      await pause(SETTLE_MS, undefined, { signal: assignment.lost });
      const missing = new Set(await retrying(() => stored.missing(range.from, range.to)));
      if (missing.size === 0) return;
      logger.warn({ ...range, missing: missing.size, round }, "rows missing after a replay, inserting them");
      const part = await retrying(() => deps.preparer.prepare(records, missing));
      await store(part, `${prefix}:${range.from}-${range.to}:r${round}`, { ...range, partial: true });
    }
    if (await isWhole(range)) return;
    throw new PartitionHaltedError(
      `${origin.topic}/${origin.partition}: offsets ${range.from} to ${range.to} are not all in ClickHouse although ` +
        "their inserts were acknowledged; check ClickHouse's disk and log, run millrace verify, then restart the consumer",
    );
  }

  async function isWhole(range: Marker): Promise<boolean> {
    const expected = range.to - range.from + 1;
    const count = await retrying(() => stored.count(range.from, range.to));
    if (count > expected) logger.error({ ...range, count, expected }, "more rows than offsets; run millrace verify");
    return count >= expected && (count === expected || (await stored.missing(range.from, range.to)).length === 0);
  }

  async function finish(range: Marker, prepared: Prepared): Promise<void> {
    await markers.clear(range.to + 1);
    for (const { id, offset, appendTimeMs } of prepared.ids) deps.window.add(id, offset, appendTimeMs);
    metrics.countStored(prepared);
  }

  function retrying<T>(attempt: () => Promise<T>): Promise<T> {
    return retryForever(attempt, {
      signal: assignment.lost,
      baseMs: RETRY_BASE_MS,
      capMs: RETRY_CAP_MS,
      isTransient: (error) => error instanceof WarehouseError && error.kind === "transient",
      onRetry({ attempt: n, delayMs, error }) {
        logger.warn(
          { partition: origin.partition, attempt: n, delayMs, err: error },
          "ClickHouse unavailable, retrying",
        );
      },
    });
  }

  return { flush, reconcile };
}

function rangeOf(records: readonly StoredRecord[]): Marker {
  return { from: (records[0] as StoredRecord).offset, to: (records.at(-1) as StoredRecord).offset };
}

function halves(records: readonly StoredRecord[]): [readonly StoredRecord[], readonly StoredRecord[]] {
  const middle = records.length >> 1;
  return [records.slice(0, middle), records.slice(middle)];
}

/** ClickHouse understood the insert and stored nothing of it. */
function isRefusal(error: unknown): error is WarehouseError {
  return error instanceof WarehouseError && error.kind !== "transient";
}
