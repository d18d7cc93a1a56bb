// Errors that make a partition halt or wait.
import { sleepUnless } from "#lib/process/waiting.ts";

/** The partition cannot go on without somebody's decision; the message ends with the remedy. */
export class PartitionHaltedError extends Error {
  override readonly name = "PartitionHaltedError";
}

/** Between two looks at whether a halted partition may go on. */
const LOOK_MS = 5000;

/** Resolves when what the partition was halted for is over, or when `ended`; calls `onHalted` unless it is over at once. */
export async function untilOver(
  isOver: () => Promise<boolean>,
  ended: AbortSignal,
  onHalted: () => void,
): Promise<void> {
  // Who cannot look, because log or ClickHouse is away, looks again.
  const look = () => isOver().catch(() => false);
  let isHalted = false;
  while (!ended.aborted && !(await look()) && !ended.aborted) {
    if (!isHalted) onHalted();
    isHalted = true;
    await sleepUnless(ended, LOOK_MS);
  }
}

/**
 * ClickHouse refuses whatever it is sent, so the table is at fault, not the records. Nothing from `from` on is stored, and
 * the same records may be sent again: they are taken once the table is repaired.
 */
export class TableRefusesError extends Error {
  override readonly name = "TableRefusesError";
  /** First offset that is not stored. */
  readonly from: number;

  constructor(message: string, from: number, options: ErrorOptions) {
    super(message, options);
    this.from = from;
  }
}
