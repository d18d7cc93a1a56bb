// Gives up what is missing and can never come back, because the log has let it go: each offset becomes an outcome "lost".
// A person has to name the number, so that nothing is given up that nobody has seen.
import { OUTCOME_COLUMNS, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import { type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";
import type { Audit, PartitionAudit } from "./audit.ts";
import type { OffsetRange } from "./stored.ts";

/** What is missing is not what was to be given up; the message says what is. Nothing was changed. */
export class NotTheLossError extends Error {
  override readonly name = "NotTheLossError";
}

const ROWS_PER_INSERT = 50_000;
const DETAIL = "given up by verify --accept-lost";

/** Of what is missing, the offsets that the log has no longer. */
export function lostRanges({ start, missing }: PartitionAudit): OffsetRange[] {
  return missing.ranges
    .filter(({ from }) => from < start)
    .map(({ from, to }) => ({ from, to: Math.min(to, start - 1) }));
}

export function lostCount(audits: readonly Audit[]): number {
  const ranges = audits.flatMap(({ partitions }) => partitions.flatMap(lostRanges));
  return ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0);
}

/** Throws NotTheLossError unless exactly `count` offsets are lost. */
export function refuseOtherLoss(audits: readonly Audit[], count: number): void {
  const lost = lostCount(audits);
  if (lost === count) return;
  throw new NotTheLossError(
    `${lost} offsets are missing and no longer on the log, not ${count}: look at them with \`millrace verify\` first. ` +
      "Nothing was given up",
  );
}

/**
 * Writes the outcomes of what the audit has found lost, which nobody else can store any more. Told twice, the same offsets
 * are written under the same tokens. Rejects with WarehouseError.
 */
export async function acceptLost(
  warehouse: Warehouse,
  { epoch, topic, partitions }: Audit,
  nowMs: number,
): Promise<void> {
  for (const audit of partitions) {
    const { partition } = audit;
    const origin = { epoch, topic, partition };
    for (const range of lostRanges(audit)) {
      for (let from = range.from; from <= range.to; from += ROWS_PER_INSERT) {
        const to = Math.min(range.to, from + ROWS_PER_INSERT - 1);
        const offsets = Array.from({ length: to - from + 1 }, (_, n) => from + n);
        // When they were appended nobody knows any more.
        const rows = offsets.map((offset) => outcomeRow(origin, { offset, appendTimeMs: nowMs }, "lost", DETAIL));
        await warehouseOf(warehouse, partition).insert({
          table: "log_outcomes",
          columns: OUTCOME_COLUMNS,
          rows: Buffer.concat(rows),
          token: `${epoch}:${topic}:${partition}:${from}-${to}:lost`,
        });
      }
    }
  }
}

/** How a person is told what can be given up; undefined when nothing can. */
export function lossAdvice(audits: readonly Audit[]): string | undefined {
  const count = lostCount(audits);
  if (count === 0) return undefined;
  return `${count} of the missing offsets are no longer on the log, so they cannot be repaired. To give them up: millrace verify --accept-lost ${count}`;
}
