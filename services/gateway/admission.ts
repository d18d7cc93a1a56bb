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
  /**
   * A lease, or undefined when there is no room for as many bytes as are declared (0 when unknown). They are counted as
   * they come: a caller who declares much and sends slowly takes no room from others.
   */
  open(declaredBytes: number): Lease | undefined;
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
    open(declaredBytes) {
      // One request alone always fits, else a bound below the body limit would refuse large requests for ever.
      if (inFlight > 0 && inFlight + declaredBytes > maxBytes) return undefined;
      let held = 0;
      const forget = () => {
        inFlight -= held;
        held = 0;
      };
      return {
        grow(bytes) {
          held += bytes;
          inFlight += bytes;
          return inFlight <= maxBytes || inFlight === held;
        },
        reset: forget,
        release: forget,
      };
    },
  };
}
