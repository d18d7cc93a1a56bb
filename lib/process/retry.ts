// Retrying what is busy: forever, with a growing random pause. What can never succeed is the caller's to recognise.
import { setTimeout as pause } from "node:timers/promises";

export interface Retry {
  attempt: number;
  delayMs: number;
  error: unknown;
}

export interface RetryOptions {
  /** Ends the retrying; the promise then rejects with the signal's reason. An attempt under way gets the same signal. */
  signal: AbortSignal;
  /** Upper bound of the first pause. */
  baseMs: number;
  /** Upper bound of every pause. */
  capMs: number;
  /** False ends the retrying with this error. */
  isTransient(error: unknown): boolean;
  /**
   * What to wait for instead of pausing, for an error that knows when the next attempt is due; undefined for any other.
   * Rejects when `signal` fires. The pauses start over after it.
   */
  waitFor?(error: unknown, signal: AbortSignal): Promise<void> | undefined;
  /** Before each pause; `attempt` counts from 1. */
  onRetry(retry: Retry): void;
  random?: () => number;
}

/**
 * Resolves with the first success. The pause after attempt n is uniform between 0 and min(capMs, baseMs * 2^(n-1)):
 * full jitter, so that processes that failed together do not come back together.
 */
export async function retryForever<T>(
  attempt: (signal: AbortSignal) => Promise<T>,
  { signal, baseMs, capMs, isTransient, waitFor, onRetry, random = Math.random }: RetryOptions,
): Promise<T> {
  for (let count = 1; ; count++) {
    signal.throwIfAborted();
    try {
      return await attempt(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!isTransient(error)) throw error;
      const due = waitFor?.(error, signal);
      if (due !== undefined) {
        await due;
        count = 0;
        continue;
      }
      // 2^30 is past every cap; without a bound the power becomes Infinity after a day of retries, and Infinity * 0 is NaN.
      const delayMs = random() * Math.min(capMs, baseMs * 2 ** Math.min(count - 1, 30));
      onRetry({ attempt: count, delayMs, error });
      await sleep(delayMs, signal);
    }
  }
}

/** Rejects with the signal's own reason; the timer's AbortError would hide why the wait ended. */
async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await pause(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
