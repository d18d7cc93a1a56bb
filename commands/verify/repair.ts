// Brings back missing offsets from the log. Safe to be killed, run twice, or run by two people at once:
//
// - Missing offsets are cut into runs that go into one table each, so a run is stored whole or not at all. Where a run
//   ends depends on its first offset and the log alone; a repair that starts at the same gap, or continues where another
//   stopped, cuts the same runs.
// - The token of a run is made of its offsets and a round. A round whose token ClickHouse still remembers adds nothing,
//   which is how two repairs at once store one row. If the rows are not there afterwards, the token was spent on rows
//   that have been lost since, and the next round follows; so each repair of a loss finds a token of its own.

import { setTimeout as sleep } from "node:timers/promises";
import { type LogReader, OffsetOutOfRangeError, type StoredRecord } from "#lib/eventlog/log.ts";
import { DEAD_LETTER_COLUMNS, OUTCOME_COLUMNS } from "#lib/ledger/outcome-rows.ts";
import { createStoredOffsets } from "#lib/ledger/stored.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import { recomputeSlots, SLOT_MS, slotOf } from "#lib/points/slots.ts";
import { type Warehouse, WarehouseError, warehouseOf } from "#lib/warehouse/warehouse.ts";
import { storeFacts } from "./facts.ts";
import { createClassifier, type Fate, type FateKind } from "./fate.ts";
import { createStoredLog, type LogIdentity, type OffsetRange } from "./stored.ts";

export interface RepairDeps {
  log: LogReader;
  warehouse: Warehouse;
  kind: StoredTopic;
}

/** The repair cannot go on; the message says what to do. What it stored until then stays. */
export class RepairConflictError extends Error {
  override readonly name = "RepairConflictError";
}

export interface RepairResult {
  repaired: number;
  /** Offsets that cannot be brought back, with the reason. */
  lost: (OffsetRange & { partition: number; reason: string })[];
}

const runRecordsMax = 5000;
const runBytesMax = 4 * 1024 * 1024;
const readWaitMs = 5000;
const roundsMax = 20;
/** Time for an insert that was answered to show on the server that is asked. */
const settleMs = 2000;
/** Which letters there are is known, and what ClickHouse said of each is not. */
const BYTES_LOST = "the letter was lost, and its bytes are from the log again";

/**
 * Stores what is missing of the gaps, partition by partition and in ascending order, as the consumer would have, and
 * computes the slots of the roll-up again into which it falls.
 * Rejects with LogUnavailableError, WarehouseError or RepairConflictError; running it again
 * goes on from there.
 */
export async function repairGaps(
  deps: RepairDeps,
  identity: LogIdentity,
  gaps: readonly { partition: number; ranges: readonly OffsetRange[] }[],
): Promise<RepairResult> {
  const result: RepairResult = { repaired: 0, lost: [] };
  const starts = new Map((await deps.log.bounds(identity.topic)).map(({ partition, start }) => [partition, start]));
  for (const { partition, ranges } of gaps) {
    const start = starts.get(partition) ?? Number.POSITIVE_INFINITY;
    const touched = new Set<number>();
    const store = createRunStore(deps, identity, partition, touched);
    for (const { from, to } of ranges) {
      const trimmed = Math.min(to, start - 1);
      if (trimmed >= from) result.lost.push({ partition, from, to: trimmed, reason: "no longer on the log" });
      await repairRange(deps, identity, { partition, from: Math.max(from, start), to }, store, result);
    }
    // Also those that are open: a consumer closes them without looking when it knows of no row in them.
    for (const fromMs of touched) {
      const range = { ...identity, partition, fromMs, toMs: fromMs + SLOT_MS };
      await recomputeSlots(warehouseOf(deps.warehouse, partition), range);
    }
  }
  return result;
}

async function repairRange(
  { log, warehouse, kind }: RepairDeps,
  identity: LogIdentity,
  { partition, from, to }: OffsetRange & { partition: number },
  store: (run: readonly Fate[]) => Promise<void>,
  result: RepairResult,
): Promise<void> {
  const classifier = createClassifier(warehouse, { ...identity, partition }, kind.table);
  const stored = createStoredLog(warehouse, identity, kind.table);
  const fatesOf = async (records: readonly StoredRecord[], first: number, last: number): Promise<Fate[]> => {
    const classes = await stored.withoutBytes(partition, first, last);
    return (await classifier.classify(records)).map((fate) => {
      const errorClass = fate.kind === "erased" ? undefined : classes.get(fate.offset);
      return errorClass === undefined ? fate : { ...fate.bury(errorClass, BYTES_LOST), kind: "letter" };
    });
  };
  let at = from;
  while (at <= to) {
    let records: StoredRecord[];
    try {
      records = await readWindow(log, identity.topic, partition, at, to);
    } catch (error) {
      if (!(error instanceof OffsetOutOfRangeError)) throw error;
      // Trimmed since the bounds were read.
      result.lost.push({ partition, from: at, to, reason: error.message });
      return;
    }
    const last = records.at(-1);
    if (last === undefined) {
      result.lost.push({ partition, from: at, to, reason: "the log did not return them in time: run it again" });
      return;
    }
    const fates = await fatesOf(records, at, last.offset);
    at = await storeRuns(fates, last.offset === to, store, result);
  }
}

/** Stores the runs of a window and returns where the next window begins. */
async function storeRuns(
  fates: readonly Fate[],
  endsGap: boolean,
  store: (run: readonly Fate[]) => Promise<void>,
  result: RepairResult,
): Promise<number> {
  const runs = cutRuns(fates);
  // The last run may go on behind the window. Unless it is all of it, it is cut again from its own first offset, so that
  // its end does not depend on what came before it.
  const whole = runs.length === 1 || endsGap ? runs : runs.slice(0, -1);
  let next = fates[0]?.offset ?? 0;
  for (const run of whole) {
    await store(run);
    result.repaired += run.length;
    next += run.length;
  }
  return next;
}

function cutRuns(fates: readonly Fate[]): Fate[][] {
  const runs: Fate[][] = [];
  let kind: FateKind | undefined;
  for (const fate of fates) {
    if (fate.kind !== kind) runs.push([]);
    kind = fate.kind;
    runs.at(-1)?.push(fate);
  }
  return runs;
}

/** As many records from `from` to `to` as a run may have; fewer only at the end of the gap or when the log is slow. */
async function readWindow(log: LogReader, topic: string, partition: number, from: number, to: number) {
  const records: StoredRecord[] = [];
  let bytes = 0;
  for (let at = from; at <= to && records.length < runRecordsMax; at = from + records.length) {
    const maxRecords = Math.min(to - at + 1, runRecordsMax - records.length);
    const read = await log.tail(topic, partition, {
      from: at,
      maxRecords,
      maxBytes: runBytesMax,
      maxWaitMs: readWaitMs,
    });
    if (read.length === 0) return records;
    for (const record of read) {
      bytes += record.key.length + record.value.length;
      if (records.length > 0 && bytes > runBytesMax) return records;
      records.push(record);
    }
  }
  return records;
}

/** Stores one run, exactly once, also when others store it at the same time. `touched` is told the slots in which rows were stored. */
function createRunStore(
  { warehouse, kind }: RepairDeps,
  identity: LogIdentity,
  partition: number,
  touched: Set<number>,
) {
  const { epoch, topic } = identity;
  const shard = warehouseOf(warehouse, partition);
  const stored = createStoredOffsets(warehouse, { epoch, topic, partition }, kind.table);
  const insert = (table: string, columns: readonly string[], rows: Uint8Array, token: string): Promise<void> =>
    shard.insert({ table, columns, rows, token });

  /** Of an outcome without its bytes, the bytes; beside it "erased", should its person have been erased since. */
  const countStored = async (kind: FateKind, from: number, to: number): Promise<number> => {
    if (kind === "letter") return (await stored.deadLetters(from, to)).size;
    if (kind !== "erased") return stored.accounted(from, to + 1);
    const { byOffset } = await stored.fates(from, to);
    return [...byOffset.values()].filter((fate) => fate === "erased").length;
  };

  const insertRun = async (run: readonly Fate[], token: string): Promise<void> => {
    const rows = Buffer.concat(run.map((fate) => fate.row));
    if (run[0]?.kind === "row") {
      for (const { appendTimeMs } of run) touched.add(slotOf(appendTimeMs));
      if (kind.hasIdentity) await storeFacts(warehouse, { ...identity, partition }, run);
      await insert(kind.table.name, kind.table.columns, rows, token);
      return;
    }
    // Outcomes last: once they are there the offsets count as accounted for, and nothing would add the letters.
    const letters = run.flatMap(({ offset, letter }) => (letter === undefined ? [] : [{ offset, letter }]));
    const kept = await stored.deadLetters(run[0]?.offset ?? 0, run.at(-1)?.offset ?? 0);
    const absent = letters.filter(({ offset }) => !kept.has(offset)).map(({ letter }) => letter);
    if (absent.length > 0) await insert("dead_letters", DEAD_LETTER_COLUMNS, Buffer.concat(absent), token);
    if (run[0]?.kind === "letter") return;
    await insert("log_outcomes", OUTCOME_COLUMNS, rows, token);
  };

  const store = async (run: readonly Fate[]): Promise<void> => {
    const [first, last] = [run[0], run.at(-1)];
    if (first === undefined || last === undefined) return;
    const range = `${first.offset}-${last.offset}`;
    const place = `topic ${topic}, partition ${partition}: offsets ${range}`;
    for (let round = 1; round <= roundsMax; round += 1) {
      const count = await countStored(first.kind, first.offset, last.offset);
      if (count >= run.length) return;
      if (count > 0) throw new RepairConflictError(`${place} are being stored by another process: repair again`);
      try {
        await insertRun(run, `${epoch}:${topic}:${partition}:${range}:repair:${round}`);
      } catch (error) {
        const isRefused = error instanceof WarehouseError && error.kind === "rejected" && first.kind === "row";
        if (!isRefused) throw error;
        await split(run, error);
        return;
      }
      if ((await countStored(first.kind, first.offset, last.offset)) > 0) return;
      await sleep(settleMs);
    }
    throw new RepairConflictError(
      `${place} are not in ClickHouse although their inserts were acknowledged: check its disk and log`,
    );
  };

  /** Nothing of a refused insert is stored; the one row that is to blame becomes a dead letter. */
  const split = async (run: readonly Fate[], error: WarehouseError): Promise<void> => {
    const [only] = run;
    if (run.length === 1 && only !== undefined) {
      await store([only.bury(`clickhouse_${error.code ?? "rejected"}`, error.message)]);
      return;
    }
    const middle = run.length >> 1;
    await store(run.slice(0, middle));
    await store(run.slice(middle));
  };

  return store;
}
