// Consecutive records of a partition into ClickHouse, exactly once: marker, insert under a token, commit. What ClickHouse
// refuses is cut in halves until the record is found that cannot be stored; refusals.ts says when it may be given up.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { IdWindow } from "#lib/ledger/id-window.ts";
import type { Marker } from "#lib/ledger/marker.ts";
import type { Fate, Fates } from "#lib/ledger/stored.ts";
import type { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { PartitionHaltedError } from "./halted.ts";
import type { FactWriter } from "./identity/fact-writer.ts";
import { createInserter, INSERT_DEADLINE_MS, type InsertDeps, REPAIR_ROUNDS_MAX } from "./insert.ts";
import type { Prepared, Preparer, Refusal } from "./prepare.ts";
import { createSuspects, type Suspects, tableRefuses } from "./refusals.ts";
import type { PartitionSlots } from "./rollup/roller.ts";

/** One insert must stay one block (docs/design.md, "Exactly once"). Escapes can make rows longer than their records. */
const INSERT_BYTES_MAX = 8_000_000;

export interface FlushDeps extends InsertDeps {
  preparer: Preparer;
  window: IdWindow;
  /** Of topics whose records say something about people. */
  facts?: FactWriter | undefined;
  /** Of topics whose rows are rolled up. */
  slots?: PartitionSlots | undefined;
}

/** Both reject with TableRefusesError when the table takes nothing, PartitionHaltedError when it keeps nothing. */
export interface Flusher {
  /** Stores consecutive records of which nothing is stored, and commits the offset after them. */
  flush(records: readonly StoredRecord[]): Promise<void>;
  /**
   * The same for records that may be stored in part, or whole, or are being stored by an insert nobody waits for any more:
   * ClickHouse is asked before, so that nothing is stored twice, and after, because an acknowledged token may hide a loss.
   */
  settle(records: readonly StoredRecord[]): Promise<void>;
}

/** Why a range was not stored, and has to be cut. */
type Obstacle =
  | { kind: "too large" }
  /** Nothing in it would show whether the table takes rows. */
  | { kind: "no rows" }
  /** `isDoubtful`: parts of it may be stored. */
  | { kind: "refused"; error: WarehouseError; isDoubtful: boolean };

type Refusals = ReadonlyMap<number, Refusal>;
type Store = (records: readonly StoredRecord[], refusals?: Refusals) => Promise<Obstacle | undefined>;

export function createFlusher(deps: FlushDeps): Flusher {
  const { origin, stored, preparer, markers, metrics, logger } = deps;
  const { insertRows, insertOutcomes, retrying, askTwice } = createInserter(deps);

  async function inOrder(records: readonly StoredRecord[], first: Store): Promise<void> {
    const suspects = createSuspects(origin, (offset) => retrying(() => stored.refusedBefore(offset)));
    let store = first;
    let chunks = [records];
    for (let chunk = chunks[0]; chunk; chunk = chunks[0]) {
      let obstacle: Obstacle | undefined;
      if (suspects.records.length === 0) obstacle = await store(chunk);
      else {
        obstacle = await test(suspects, chunk, store === storeSettled);
        if (obstacle?.kind !== "refused") {
          if (obstacle) await suspects.convict();
          await decide(suspects, store);
          const usual = store;
          // The test has put rows of the chunk into the table.
          if (!obstacle) store = storeSettled;
          obstacle = await store(chunk);
          if (!obstacle) store = usual;
        }
      }
      if (obstacle?.kind === "refused") {
        logger.warn({ ...rangeOf(chunk), err: obstacle.error }, "rows refused by ClickHouse");
        if (obstacle.isDoubtful) store = storeSettled;
        if (chunk.length === 1) suspects.add(chunk[0] as StoredRecord, obstacle.error);
      }
      chunks = [...(obstacle && chunk.length > 1 ? inHalves(chunk) : []), ...chunks.slice(1)];
    }
    await suspects.convict();
    await decide(suspects, store);
  }

  /** Inserts the rows of the chunk alone, to see whether the table takes any. Commits nothing of it. */
  async function test(
    { records }: Suspects,
    chunk: readonly StoredRecord[],
    isInPart: boolean,
  ): Promise<Obstacle | undefined> {
    const all = [...records, ...chunk];
    const range = rangeOf(all);
    const fates = new Map(isInPart ? await fatesOf(range, false) : []);
    if ([...fates.values()].includes("row")) return undefined;
    // As if the suspects were rows: a record with the id of one of them has to wait until that one is decided.
    for (const { offset } of records) fates.set(offset, "row");
    const prepared = await retrying(() => preparer.prepare(all, { fates }));
    if (isTooLarge(prepared)) return { kind: "too large" };
    if (prepared.rowCount === 0) return { kind: "no rows" };
    await markers.set(range);
    const { refused, isDoubtful } = await insertRows(prepared, tokenOf(range), range, fates);
    return refused && { kind: "refused", error: refused, isDoubtful };
  }

  /** Each has another chance, since the table may have been repaired after it was refused; then it is given up. */
  async function decide(suspects: Suspects, store: Store): Promise<void> {
    for (const record of suspects.records) {
      const obstacle = await store([record]);
      if (obstacle) await store([record], suspects.refusals);
    }
    suspects.clear();
  }

  async function storeFresh(records: readonly StoredRecord[], refusals?: Refusals): Promise<Obstacle | undefined> {
    const range = rangeOf(records);
    const prepared = await retrying(() => preparer.prepare(records, { refusals }));
    if (records.length > 1 && isTooLarge(prepared)) return { kind: "too large" };
    await markers.set(range);
    const rows = await insertRows(prepared, tokenOf(range), range);
    if (rows.refused && !rows.isDoubtful) return { kind: "refused", error: rows.refused, isDoubtful: false };
    const outcomes = rows.refused ? rows : await insertOutcomes(prepared, tokenOf(range), range, false);
    if (rows.isDoubtful || outcomes.isDoubtful || outcomes.refused) return storeSettled(records, refusals);
    const fates = [["row", prepared.rowCount] as const, ...tally(prepared.outcomes.map(({ outcome }) => outcome))];
    await finish(records, prepared, fates);
    return undefined;
  }

  async function storeSettled(records: readonly StoredRecord[], refusals?: Refusals): Promise<Obstacle | undefined> {
    const range = rangeOf(records);
    await markers.set(range);
    for (let round = 0; round <= REPAIR_ROUNDS_MAX + 1; round++) {
      const fates = await fatesOf(range, round > 0);
      const part = await retrying(() => preparer.prepare(records, { fates, refusals }));
      if (fates.size === records.length) {
        await finish(records, part, tally(fates.values()));
        return undefined;
      }
      if (round > REPAIR_ROUNDS_MAX) break;
      if (records.length > 1 && isTooLarge(part)) return { kind: "too large" };
      if (round > 0) logger.warn({ ...range, missing: records.length - fates.size, round }, "repairing a range");
      // The range's own token first: an insert of it that is still under way somewhere must not land beside this one.
      const token = round === 0 ? tokenOf(range) : `${tokenOf(range)}:r${round}`;
      const rows = await insertRows(part, token, range, fates);
      if (rows.refused) return { kind: "refused", error: rows.refused, isDoubtful: true };
      const { refused } = await insertOutcomes(part, token, range, true);
      if (!refused) continue;
      if (refused.kind === "too_many_partitions" && records.length > 1) {
        return { kind: "refused", error: refused, isDoubtful: true };
      }
      throw tableRefuses(origin, range.from, refused, "dead letters or outcomes");
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

  /** What follows from the rows is stored before the commit: a consumer killed in between does it again. */
  async function finish(
    records: readonly StoredRecord[],
    prepared: Prepared,
    fates: Iterable<readonly [Fate, number]>,
  ): Promise<void> {
    const range = rangeOf(records);
    await deps.facts?.store(prepared.identity, () => markers.refresh(range, INSERT_DEADLINE_MS));
    await deps.slots?.stored(records);
    await markers.clear(range.to + 1);
    for (const { id, offset, appendTimeMs } of prepared.ids) deps.window.add(id, offset, appendTimeMs);
    metrics.countStored(fates);
  }

  function tokenOf({ from, to }: Marker): string {
    return `${origin.epoch}:${origin.topic}:${origin.partition}:${from}-${to}`;
  }

  return {
    flush: (records) => inOrder(records, storeFresh),
    settle: (records) => inOrder(records, storeSettled),
  };
}

function rangeOf(records: readonly StoredRecord[]): Marker {
  return { from: (records[0] as StoredRecord).offset, to: (records.at(-1) as StoredRecord).offset };
}

function inHalves(records: readonly StoredRecord[]): (readonly StoredRecord[])[] {
  const middle = records.length >> 1;
  return [records.slice(0, middle), records.slice(middle)];
}

function isTooLarge({ rows, deadLetters }: Prepared): boolean {
  let letterBytes = 0;
  // Base64 makes four characters of three bytes.
  for (const { record } of deadLetters) letterBytes += ((record.key.length + record.value.length) * 4) / 3 + 256;
  return Math.max(rows.length, letterBytes) > INSERT_BYTES_MAX;
}

function tally(fates: Iterable<Fate>): Map<Fate, number> {
  const counts = new Map<Fate, number>();
  for (const fate of fates) counts.set(fate, (counts.get(fate) ?? 0) + 1);
  return counts;
}
