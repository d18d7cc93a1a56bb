// An append of which some records are durable and others are not: the partitions of a log fail one by one.

import { LogUnavailableError, type Position } from "./log.ts";

/**
 * What an adapter whose partitions fail independently may reject an append with. A caller that knows nothing of it sees
 * a LogUnavailableError and sends all records again, which is right too, if wasteful.
 */
export class PartialAppendError extends LogUnavailableError {
  /** By index of the appended records: the position of one that is durable, else why nothing is known about it. */
  readonly outcomes: readonly (Position | Error)[];

  constructor(message: string, outcomes: readonly (Position | Error)[], cause: unknown) {
    super(message, { cause });
    this.outcomes = outcomes;
  }
}
