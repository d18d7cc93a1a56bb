// Bytes in flight: everything a request holds from its first body byte until its answer is written.

export interface Lease {
  /** Counts more bytes of the request; false when that takes the gateway over its bound (they are counted all the same). */
  grow(bytes: number): boolean;
  /** Forgets what was counted so far: a stream calls it when a message has been answered. */
  reset(): void;
  /** Ends the request. Idempotent. */
  release(): void;
}

export interface Admission {
  /** A lease over `bytes` (the declared body length, 0 when unknown), or undefined when there is no room. */
  open(bytes: number): Lease | undefined;
  readonly inFlightBytes: number;
}

/** What an over-full gateway tells callers to wait, seconds: two group commits even of a slow log. */
export const RETRY_AFTER_SECONDS = 1;

export function createAdmission(maxBytes: number): Admission {
  let inFlight = 0;
  return {
    get inFlightBytes() {
      return inFlight;
    },
    open(bytes) {
      // One request alone always fits, else a bound below the body limit would refuse large requests for ever.
      if (inFlight > 0 && inFlight + bytes > maxBytes) return undefined;
      inFlight += bytes;
      let held = bytes;
      let declared = bytes;
      return {
        grow(more) {
          // A declared length was counted when the lease was opened; only what exceeds it is new.
          const covered = Math.min(declared, more);
          declared -= covered;
          const added = more - covered;
          held += added;
          inFlight += added;
          return added === 0 || inFlight <= maxBytes || inFlight === held;
        },
        reset() {
          inFlight -= held;
          held = 0;
          declared = 0;
        },
        release() {
          inFlight -= held;
          held = 0;
          declared = 0;
        },
      };
    },
  };
}
