// What createClient is told, with defaults, checked once.
import type { CaptureOptions, DroppedEvent, DropReason } from "./capture.ts";
import type { TransportOptions } from "./transport.ts";

export interface ClientLogger {
  info(message: string): void;
  warn(message: string): void;
}

export interface SpoolSettings {
  /** Directory of this process alone; created if missing. */
  dir: string;
  /** Of all events in it. Default 256 MiB. */
  maxBytes?: number | undefined;
}

export interface ClientOptions extends TransportOptions {
  /** Most events of one request. Default 1,000. */
  batchEvents?: number | undefined;
  /** Most bytes of one request. Default 524,288, which the usual proxies let through. */
  batchBytes?: number | undefined;
  /** How long a captured event waits for others. Default 1,000. */
  intervalMs?: number | undefined;
  /** Requests of captured events at a time. Above 1 events may arrive in another order. Default 1. */
  maxInFlight?: number | undefined;
  /** Bounds of the queue in memory, without a spool. Default 100,000 events and 64 MiB. */
  maxQueueEvents?: number | undefined;
  maxQueueBytes?: number | undefined;
  /** Keeps captured events on disk until the gateway has them. */
  spool?: SpoolSettings | undefined;
  /** For one try of a request. Default 30,000. */
  requestTimeoutMs?: number | undefined;
  /** Bounds of the random pauses between tries. Default 200 to 15,000. */
  backoffMs?: { base: number; max: number } | undefined;
  /** Time for `close` to send what is queued. Default 10,000. */
  closeTimeoutMs?: number | undefined;
  /** Whether a process that has nothing else to do sends what is queued before it ends. Default true. */
  flushOnExit?: boolean | undefined;
  /** For serverless platforms: is given a promise that resolves when what was captured is sent. */
  waitUntil?: ((work: Promise<unknown>) => void) | undefined;
  /** What is captured within the hook and dropped itself is counted, and not told. */
  onDrop?: ((reason: DropReason, events: DroppedEvent[]) => void) | undefined;
  /** A failed try of captured events, or the spool's disk. `retryMs`: when it is tried again. */
  onError?: ((error: Error, retryMs: number | undefined) => void) | undefined;
  /** Told when the gateway stops and begins again to take events. Default: nothing is logged. */
  logger?: ClientLogger | undefined;
}

const NUMBERS = {
  batchEvents: 1_000,
  batchBytes: 512 * 1024,
  intervalMs: 1_000,
  maxInFlight: 1,
  maxQueueEvents: 100_000,
  maxQueueBytes: 64 * 1024 * 1024,
  requestTimeoutMs: 30_000,
  closeTimeoutMs: 10_000,
};

const BATCH_EVENTS_MAX = 10_000;
const SPOOL_BYTES = 256 * 1024 * 1024;
/** Two files of it: one is written while the other is sent. */
const SPOOL_BYTES_MIN = 128 * 1024;
/** What a timer can hold. */
const MS_MAX = 2 ** 31 - 1;

export type Numbers = typeof NUMBERS;

/** Throws a TypeError that names the option. */
export function numbersOf(options: ClientOptions): Numbers {
  const numbers: Numbers = { ...NUMBERS };
  for (const name of Object.keys(NUMBERS) as (keyof Numbers)[]) {
    const value = options[name] ?? NUMBERS[name];
    const max = name === "batchEvents" ? BATCH_EVENTS_MAX : name.endsWith("Ms") ? MS_MAX : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || value < (name.endsWith("Ms") ? 0 : 1) || value > max) {
      throw new TypeError(`${name}: expected a whole number up to ${max}, not ${value}`);
    }
    numbers[name] = value;
  }
  return numbers;
}

/** A time to wait, as a timer can hold it: Infinity is as good as for ever. Throws a TypeError for an invalid time. */
export function timeoutOf(ms: number): number {
  if (typeof ms !== "number" || !(ms >= 0)) throw new TypeError(`timeoutMs: expected milliseconds, not ${ms}`);
  return Math.min(ms, MS_MAX);
}

/** Throws a TypeError. */
export function spoolBytesOf({ dir, maxBytes = SPOOL_BYTES }: SpoolSettings): number {
  if (typeof dir !== "string" || dir === "") throw new TypeError("spool.dir: expected a directory");
  if (Number.isInteger(maxBytes) && maxBytes >= SPOOL_BYTES_MIN) return maxBytes;
  throw new TypeError(`spool.maxBytes: expected at least ${SPOOL_BYTES_MIN}, not ${maxBytes}`);
}

export type Hooks = Pick<CaptureOptions, "onDrop"> & {
  onError(error: Error, retryMs?: number): void;
  onRetry(error: Error, retryMs: number): void;
  onSent(): void;
  waitUntil: ClientOptions["waitUntil"];
};

/** The caller's hooks, which may throw without harm, and its log, which hears of an outage once. */
export function hooksOf({ onDrop, onError, waitUntil, logger, url }: ClientOptions): Hooks {
  let isAway = false;

  function guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      try {
        logger?.warn(`a hook of the client threw: ${String(error)}`);
      } catch {
        // The log itself fails; nobody is left to tell, and the events must go on.
      }
    }
  }

  const onErrorGuarded = (error: Error, retryMs?: number) => guard(() => onError?.(error, retryMs));
  return {
    onDrop: (reason, events) => guard(() => onDrop?.(reason, events)),
    onError: onErrorGuarded,
    // Platforms throw outside of a request.
    waitUntil: waitUntil && ((work) => guard(() => waitUntil(work))),
    onRetry(error, retryMs) {
      onErrorGuarded(error, retryMs);
      if (!isAway) guard(() => logger?.warn(`${url} does not take events, they wait: ${error.message}`));
      isAway = true;
    },
    onSent() {
      if (isAway) guard(() => logger?.info(`${url} takes events again`));
      isAway = false;
    },
  };
}
