// Waiting for ClickHouse: every call of a partition goes through here.
import type { Logger } from "#lib/process/log.ts";
import { retryForever } from "#lib/process/retry.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { BreakerOpenError } from "./breaker.ts";

const PAUSE_MS_BASE = 200;
/** Bounds what a call that fails alone, or meets back-pressure, adds to its wait; an outage is the breaker's. */
const PAUSE_MS_CAP = 5000;

export interface PatienceOptions {
  /** Ends the waiting, and rejects with its reason. */
  signal: AbortSignal;
  logger: Logger;
}

/** Repeats a question until ClickHouse answers it. The SQL is ours: a refusal is no fault of a record, so it waits too. */
export function askPatiently<T>(ask: () => Promise<T>, options: PatienceOptions): Promise<T> {
  return patiently(ask, (error) => error instanceof WarehouseError, options);
}

/** Repeats an insert until ClickHouse has taken it; rejects with the WarehouseError that refuses its rows. */
export function insertPatiently(insert: () => Promise<void>, options: PatienceOptions): Promise<void> {
  return patiently(insert, (error) => error instanceof WarehouseError && error.kind === "transient", options);
}

function patiently<T>(
  attempt: () => Promise<T>,
  isTransient: (error: unknown) => boolean,
  { signal, logger }: PatienceOptions,
): Promise<T> {
  return retryForever(attempt, {
    signal,
    baseMs: PAUSE_MS_BASE,
    capMs: PAUSE_MS_CAP,
    isTransient,
    waitFor: (error, ended) => (error instanceof BreakerOpenError ? error.passage(ended) : undefined),
    onRetry({ attempt: n, delayMs, error }) {
      logger.warn({ attempt: n, delayMs, err: error }, "ClickHouse unavailable, retrying");
    },
  });
}
