// Events to send, at a steady rate: new ones, and now and then one that was acknowledged before.
import { randomUUID } from "node:crypto";

export interface LoadEvent {
  id: string;
  event: string;
  distinctId: string;
  source: string;
  value: number;
}

export interface EventSource {
  /** By id: the event as text, comparable with what was stored. */
  readonly sent: ReadonlyMap<string, string>;
  readonly repeats: number;
  setRate(eventsPerSecond: number): void;
  /** What is to be sent now, event by event or at once; undefined: nothing yet. */
  next(): { events: LoadEvent[]; isSingle: boolean } | undefined;
  /** Decides by chance whether the event, which is acknowledged, will be sent again. */
  noteAcked(event: LoadEvent): void;
  forgetRepeats(): void;
}

const BATCHES_PER_SECOND = 20;
/** Of ten batches one is sent event by event, and is no larger than this. */
const SINGLES_EVERY = 10;
export const SINGLES_MAX = 20;
/** Share of events that are sent again after they were acknowledged, and how much later. */
const REPEAT_SHARE = 0.01;
const REPEAT_MS_MAX = 40_000;
const USERS = 5_000;
/** Lost time is caught up with, but not hours of it. */
const DEBT_MS_MAX = 2_000;

export function createEventSource(eventsPerSecond: number): EventSource {
  const sent = new Map<string, string>();
  let rate = eventsPerSecond;
  let nextBatchAt = performance.now();
  let batches = 0;
  let repeats = 0;
  let repeatsToCome: { at: number; event: LoadEvent }[] = [];

  function newEvent(): LoadEvent {
    const n = sent.size;
    const event = {
      id: randomUUID(),
      event: n % 7 === 0 ? "checkout" : "page_view",
      distinctId: `user_${n % USERS}`,
      source: "chaos",
      value: n,
    };
    sent.set(event.id, contentOf(event));
    return event;
  }

  function takeRepeats(now: number): LoadEvent[] {
    const due = repeatsToCome.filter(({ at }) => at <= now).map(({ event }) => event);
    if (due.length > 0) repeatsToCome = repeatsToCome.filter(({ at }) => at > now);
    repeats += due.length;
    return due;
  }

  return {
    sent,
    get repeats() {
      return repeats;
    },
    setRate(wanted) {
      rate = wanted;
      nextBatchAt = performance.now();
    },
    next() {
      const now = performance.now();
      if (now < nextBatchAt) return undefined;
      nextBatchAt = Math.max(nextBatchAt, now - DEBT_MS_MAX) + 1000 / BATCHES_PER_SECOND;
      const again = takeRepeats(now);
      if (again.length > 0) return { events: again, isSingle: false };
      batches++;
      const isSingle = batches % SINGLES_EVERY === 0;
      const size = Math.max(1, Math.round(rate / BATCHES_PER_SECOND));
      return { events: Array.from({ length: isSingle ? Math.min(size, SINGLES_MAX) : size }, newEvent), isSingle };
    },
    noteAcked(event) {
      if (Math.random() >= REPEAT_SHARE) return;
      repeatsToCome.push({ at: performance.now() + Math.random() * REPEAT_MS_MAX, event });
    },
    forgetRepeats() {
      repeatsToCome = [];
    },
  };
}

/** An event as text, from what was sent. CONTENT_SQL makes the same text of a row. */
function contentOf({ event, distinctId, source, value }: LoadEvent): string {
  return `${event}|${distinctId}|${source}|${value}|${value}`;
}

/** Of a row of the view `events`. */
export const CONTENT_SQL =
  "concat(event, '|', distinct_id, '|', source, '|', toString(value), '|', JSONExtractRaw(properties, 'n'))";
