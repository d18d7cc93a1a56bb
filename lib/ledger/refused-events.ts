// What a gateway has refused lately: why, never what was in it. Kept in memory, bounded, so that somebody who asks for an
// event that never reached the log is told. Gateways write it; the stats service asks them for it.
import { z } from "zod";
import { parseUuid } from "#lib/events/ids.ts";

export interface RefusedEvent {
  /** UUID. An event without one is counted, and cannot be asked for. */
  id: string;
  reason: string;
  /** Path of the offending field; may be empty. */
  field: string;
  /** Name of the event, cut; may be empty. */
  event: string;
  timeMs: number;
  retryable: boolean;
}

/** Of one reason. */
export interface RefusalSum {
  reason: string;
  lastHour: number;
  newestMs: number;
}

export interface RefusedEvents {
  note(refused: Omit<RefusedEvent, "timeMs">): void;
  /** Newest first; those of these ids. */
  find(ids: readonly string[]): RefusedEvent[];
  sums(): RefusalSum[];
  /** Since when nothing with an id has been forgotten, milliseconds since 1970. */
  readonly sinceMs: number;
}

/** Path of the gateway's answer to who asks for them, with a secret key. */
export const REFUSED_PATH = "/admin/refused";

export const refusedAnswer = z.object({
  since_ms: z.number(),
  sums: z.array(z.object({ reason: z.string(), last_hour: z.number(), newest_ms: z.number() })),
  refused: z.array(
    z.object({
      ...{ id: z.string(), reason: z.string(), field: z.string(), event: z.string() },
      ...{ time_ms: z.number(), retryable: z.boolean() },
    }),
  ),
});

export type RefusedAnswer = z.output<typeof refusedAnswer>;

const EVENTS_MAX = 10_000;
const FIELD_CHARS_MAX = 200;
const EVENT_CHARS_MAX = 200;
const MINUTE_MS = 60_000;
const MINUTES = 60;
/** Of one answer. */
const FOUND_MAX = 1_000;

export function createRefusedEvents(nowMs: () => number = Date.now): RefusedEvents {
  const ring: RefusedEvent[] = [];
  let next = 0;
  let sinceMs = nowMs();
  /** By reason, counts of the last minutes: each at its number modulo MINUTES. */
  const counts = new Map<string, { byMinute: { minute: number; count: number }[]; newestMs: number }>();

  function keep(refused: RefusedEvent): void {
    const forgotten = ring[next];
    if (forgotten) sinceMs = forgotten.timeMs;
    ring[next] = refused;
    next = (next + 1) % EVENTS_MAX;
  }

  function count(reason: string, timeMs: number): void {
    const minute = Math.floor(timeMs / MINUTE_MS);
    const known = counts.get(reason) ?? { byMinute: [], newestMs: timeMs };
    counts.set(reason, known);
    known.newestMs = timeMs;
    const at = known.byMinute[minute % MINUTES];
    if (at?.minute === minute) at.count++;
    else known.byMinute[minute % MINUTES] = { minute, count: 1 };
  }

  return {
    get sinceMs() {
      return sinceMs;
    },
    note({ id, reason, field, event, retryable }) {
      const timeMs = nowMs();
      count(reason, timeMs);
      if (parseUuid(id) === undefined) return;
      const shown = { field: cut(field, FIELD_CHARS_MAX), event: cut(event, EVENT_CHARS_MAX) };
      keep({ id: id.toLowerCase(), reason, ...shown, timeMs, retryable });
    },
    find(ids) {
      const wanted = new Set(ids);
      const found = wanted.size === 0 ? [] : ring.filter(({ id }) => wanted.has(id));
      return found.sort((a, b) => b.timeMs - a.timeMs).slice(0, FOUND_MAX);
    },
    sums() {
      const oldest = Math.floor(nowMs() / MINUTE_MS) - MINUTES;
      return [...counts].map(([reason, { byMinute, newestMs }]) => {
        const recent = byMinute.filter((each) => each !== undefined && each.minute > oldest);
        return { reason, lastHour: recent.reduce((sum, { count: n }) => sum + n, 0), newestMs };
      });
    },
  };
}

/** A copy: a slice would keep the request's whole text alive. */
function cut(text: string, charsMax: number): string {
  return Buffer.from(text.slice(0, charsMax)).toString();
}
