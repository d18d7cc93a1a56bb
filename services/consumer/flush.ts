// One range [from, to] of a partition into ClickHouse, exactly once: marker, insert under a token, commit.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { PartitionHaltedError } from "./halted.ts";
import type { IdWindow } from "./id-window.ts";
import { createInserter, type InsertDeps, REPAIR_ROUNDS_MAX } from "./insert.ts";
import type { Marker } from "./marker.ts";
import type { Prepared, Preparer, Refusal } from "./prepare.ts";
import type { Fate, Fates } from "./stored.ts";

/** One insert must stay one block (docs/design.md, "Exactly once"). Escapes can make rows longer than their records. */
const INSERT_BYTES_MAX = 8_000_000;

export interface FlushDeps extends InsertDeps {
  preparer: Preparer;
  window: IdWindow;
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

export function createFlusher(deps: FlushDeps): Flusher {
  const { origin, stored, preparer, markers, metrics, logger } = deps;
  const { insertRows, insertOutcomes, retrying, askTwice } = createInserter(deps);

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
    for (let round = 0; ; ) {
      const fates = await fatesOf(range, round > 0);
      const part = await retrying(() => preparer.prepare(records, { fates, refusal: verdict }));
      if (fates.size === records.length) return finish(range, part, tally(fates.values()));
      if (round > REPAIR_ROUNDS_MAX) break;
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

  async function finish(range: Marker, { ids }: Prepared, fates: Iterable<readonly [Fate, number]>): Promise<void> {
    await markers.clear(range.to + 1);
    for (const { id, offset, appendTimeMs } of ids) deps.window.add(id, offset, appendTimeMs);
    metrics.countStored(fates);
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
