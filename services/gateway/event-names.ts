// Names of events are a dictionary in ClickHouse (LowCardinality), made for thousands of them. A caller that puts an id or
// a URL into the name makes them without end; this notices, and drops nothing.

import type { Counter } from "prom-client";
import type { Logger } from "#lib/process/log.ts";

const WARNING_INTERVAL_MS = 60_000;
const NAME_CHARS_SHOWN = 100;

export interface EventNamesOptions {
  /** Names of one key that are remembered; any other one after that is over the cap. */
  maxNames: number;
  /** Counts the events that are over the cap. */
  overCap: Pick<Counter, "inc">;
  logger: Pick<Logger, "warn">;
  /** Monotonic milliseconds. */
  nowMs?: () => number;
}

export interface EventNames {
  /** To be called for each event that is about to be stored. */
  note(apiKey: string, name: string): void;
}

/** Counts since the process was started. Keys are those of the settings, so that memory is bounded by the cap. */
export function createEventNames(options: EventNamesOptions): EventNames {
  const { maxNames, overCap, logger, nowMs = () => performance.now() } = options;
  const namesOf = new Map<string, Set<string>>();
  let warnedMs = Number.NEGATIVE_INFINITY;

  function warn(event: string): void {
    overCap.inc();
    const now = nowMs();
    if (now - warnedMs < WARNING_INTERVAL_MS) return;
    warnedMs = now;
    logger.warn(
      { event: event.slice(0, NAME_CHARS_SHOWN), maxEventNames: maxNames },
      "a key sends more different event names than are counted; put what varies into properties",
    );
  }

  return {
    note(apiKey, name) {
      let names = namesOf.get(apiKey);
      if (names === undefined) {
        names = new Set();
        namesOf.set(apiKey, names);
      }
      if (names.has(name)) return;
      // A copy: a slice would keep the request's whole text alive.
      if (names.size < maxNames) names.add(Buffer.from(name).toString());
      else warn(name);
    },
  };
}
