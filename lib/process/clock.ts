// Time as a dependency, so that tests can move it.

export interface Clock {
  /** Wall clock, milliseconds since 1970. May jump; for what people read and what is stored. */
  nowMs(): number;
  /** Milliseconds since some moment of this process. Never goes back; for measuring and deadlines. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
