// Logs events that POST /batch/ dropped because they exceed a limit.
import type { Logger } from "#lib/process/log.ts";
import type { Rejection } from "../ingest.ts";

const INTERVAL_MS = 1000;
const EVENTS_SHOWN = 10;

/**
 * Logs events that were dropped for breaking a rule: the answer only counts them. One line a second at most, which says
 * how many requests before it had none.
 */
export function createDropLog(
  logger: Logger,
  nowMs: () => number = () => performance.now(),
): (rejected: readonly Omit<Rejection, "retryable">[]) => void {
  let lastMs = Number.NEGATIVE_INFINITY;
  let unlogged = 0;
  return (rejected) => {
    const now = nowMs();
    if (now - lastMs < INTERVAL_MS) {
      unlogged++;
      return;
    }
    const events = rejected
      .slice(0, EVENTS_SHOWN)
      .map(({ index, field, message }) => ({ index, reason: field === "" ? message : `${field}: ${message}` }));
    logger.warn({ dropped: rejected.length, events, requestsNotLogged: unlogged }, "invalid events dropped");
    lastMs = now;
    unlogged = 0;
  };
}
