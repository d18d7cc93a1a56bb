// How long to wait before the next attempt to send.
import { native } from "./native.ts";

const RETRY_MS = 3000;
const RETRY_MS_MAX = 5 * 60_000;

/** When to try again: after 3 s, twice that each time up to five minutes, a quarter more or less. */
export interface Backoff {
  /** Milliseconds until the next attempt; 0 is now. */
  waitMs(): number;
  /** An error's `retryAfterMs` is how long the server asked to be left alone, at least. */
  failed(error: unknown): void;
  clear(): void;
}

export function createBackoff(): Backoff {
  let failures = 0;
  let untilMs = 0;
  return {
    waitMs: () => Math.max(0, untilMs - native.monotonicMs()),
    failed(error) {
      const asked = (error as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs;
      const own = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures) * (0.75 + Math.random() / 2);
      failures = Math.min(failures + 1, 10);
      untilMs = native.monotonicMs() + (typeof asked === "number" ? Math.min(asked, RETRY_MS_MAX) + own / 4 : own);
    },
    clear() {
      failures = 0;
      untilMs = 0;
    },
  };
}
