// Errors that make a partition halt or wait.

/** The partition cannot go on without somebody's decision; the message ends with the remedy. */
export class PartitionHaltedError extends Error {
  override readonly name = "PartitionHaltedError";
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
