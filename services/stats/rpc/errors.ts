// What callers of the RPCs hear of failures.
import { Code, ConnectError } from "@connectrpc/connect";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import { TooManyWatchersError } from "../live/live.ts";
import { WatchEndedError } from "../live/watcher.ts";
import { StatsQueryError, type StatsQueryErrorKind } from "../queries/errors.ts";

const CODES: Record<StatsQueryErrorKind, Code> = {
  invalid: Code.InvalidArgument,
  too_much: Code.ResourceExhausted,
  busy: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
};

/** The same request may succeed in a second. */
export function retryLater(message: string, code: Code, cause?: unknown): ConnectError {
  return new ConnectError(message, code, { "retry-after": String(RETRY_AFTER_SECONDS.query) }, undefined, cause);
}

export function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

/** What a call that failed is answered; a bug comes back as it is. `signal` is the call's. */
export function toRpcError(error: unknown, signal: AbortSignal): unknown {
  // The caller has left or its deadline has passed, which the reason says, or the service stops.
  if (signal.aborted) return ConnectError.from(signal.reason, Code.Unavailable);
  if (error instanceof StatsQueryError) {
    const code = CODES[error.kind];
    return error.kind === "busy" || error.kind === "unavailable"
      ? retryLater(error.message, code, error)
      : new ConnectError(error.message, code, undefined, undefined, error);
  }
  if (error instanceof TooManyWatchersError) return retryLater(error.message, Code.ResourceExhausted, error);
  if (error instanceof WatchEndedError) {
    return error.why === "stopping"
      ? retryLater(error.message, Code.Unavailable, error)
      : new ConnectError(error.message, Code.ResourceExhausted, undefined, undefined, error);
  }
  return error;
}
