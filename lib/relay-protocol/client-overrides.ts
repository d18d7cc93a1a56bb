// An agent's own timers while an `override` command is in force.
import type { Override } from "./override.ts";

export interface Overrides {
  /** Replaces what runs. */
  start(override: Override): void;
  /** Back to being asked only. */
  stop(): void;
}

/** Runs `collect` for each overridden collector at its own interval, until the override's time is over. */
export function createOverrides(collect: (name: string) => void): Overrides {
  let timers: NodeJS.Timeout[] = [];

  function stop(): void {
    for (const timer of timers) clearTimeout(timer);
    timers = [];
  }

  return {
    stop,
    start({ seconds, intervals }) {
      stop();
      timers = Array.from(intervals, ([name, every]) => setInterval(() => collect(name), every * 1000));
      timers.push(setTimeout(stop, seconds * 1000));
    },
  };
}
