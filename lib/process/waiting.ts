// Waiting with an end: for work, for a signal, for a turn, for the time to say something again.
import { setTimeout as pause } from "node:timers/promises";

/** Work was not done within its time. */
export class TimeoutError extends Error {
  override readonly name = "TimeoutError";
}

/**
 * Rejects with the error that `late` makes when `work` takes longer than `ms`. Work that is a function gets a signal that
 * fires then; what it does afterwards is not waited for.
 */
export async function within<T>(
  ms: number,
  work: Promise<T> | ((signal: AbortSignal) => Promise<T>),
  late: () => Error = () => new TimeoutError(`not done within ${ms} ms`),
): Promise<T> {
  const controller = new AbortController();
  const expired = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => {
      const error = late();
      expired.reject(error);
      controller.abort(error);
    },
    Math.max(0, ms),
  );
  try {
    return await Promise.race([typeof work === "function" ? work(controller.signal) : work, expired.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when the signal fires. */
export function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}

/** Resolves with true after `ms`, or with false as soon as the signal fires. */
export async function sleepUnless(signal: AbortSignal, ms: number): Promise<boolean> {
  try {
    await pause(ms, undefined, { signal });
    return true;
  } catch (error) {
    if (!signal.aborted) throw error;
    return false;
  }
}

/** Says true at most once in `ms`: when it is asked for the first time, and when that long has passed since it last did. */
export function atMostEvery(ms: number, startsNow = true): () => boolean {
  let lastMs = startsNow ? Number.NEGATIVE_INFINITY : performance.now();
  return () => {
    const nowMs = performance.now();
    if (nowMs - lastMs < ms) return false;
    lastMs = nowMs;
    return true;
  };
}

export interface SlotOptions {
  count: number;
  /** Beyond it, those who ask are refused at once. */
  waitingMax: number;
  waitMsMax: number;
  /** Why there is no place: too many wait, or it took too long. */
  busy(): Error;
}

export interface Slots {
  /**
   * Resolves with the function that gives the place back, however often it is called; rejects with `busy()`, or with the
   * signal's reason.
   */
  take(signal?: AbortSignal): Promise<() => void>;
}

/** A bounded number of places, handed on in the order of asking. */
export function createSlots({ count, waitingMax, waitMsMax, busy }: SlotOptions): Slots {
  let free = count;
  const waiting: (() => void)[] = [];

  function place(): () => void {
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    };
  }

  return {
    async take(signal) {
      signal?.throwIfAborted();
      if (free > 0) {
        free -= 1;
        return place();
      }
      if (waiting.length >= waitingMax) throw busy();
      const turn = Promise.withResolvers<void>();
      waiting.push(turn.resolve);
      const leave = (reason: unknown) => {
        const at = waiting.indexOf(turn.resolve);
        if (at < 0) return;
        waiting.splice(at, 1);
        turn.reject(reason);
      };
      const timer = setTimeout(() => leave(busy()), waitMsMax);
      const onAbort = () => leave(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        await turn.promise;
        return place();
      } finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      }
    },
  };
}
