// Events to send, at a steady rate: new ones, and now and then one that was acknowledged before.
import { randomUUID } from "node:crypto";
import { formatUuid, parseUuid, uuidV5 } from "#lib/events/ids.ts";
import { createRandom } from "../test/kit/random.ts";
import { createIdentityTraffic } from "./identity-traffic.ts";

/** The gateways' keys. */
export const API_KEYS = { public: "chaos-public-key", secret: "chaos-secret-key" } as const;

export interface LoadEvent {
  id: string;
  event: string;
  distinctId: string;
  source: string;
  value: number | undefined;
  /** When it happened; the same each time it is sent. */
  timeMs: number;
  properties: Record<string, unknown>;
  /** With which it is sent, each time: its id is known under that key. */
  apiKey: string;
}

/**
 * publish: one request of EventService; single: POST /events, one request each; batch: POST /batch/; v1: PostHog's Capture V1;
 * segment: POST /v1/batch.
 */
export type Way = "publish" | "single" | "batch" | "v1" | "segment";

/** Events of one key. */
export interface Parcel {
  events: LoadEvent[];
  way: Way;
}

export interface EventSourceOptions {
  /** Decides what is said about people. */
  seed: number;
  eventsPerSecond: number;
}

export interface EventSource {
  /** By id: the event as text, comparable with what was stored. */
  readonly sent: ReadonlyMap<string, string>;
  readonly repeats: number;
  setRate(eventsPerSecond: number): void;
  /** What is to be sent now; undefined: nothing yet. */
  next(): Parcel | undefined;
  /** Decides by chance whether the event, which is acknowledged, will be sent again. */
  noteAcked(event: LoadEvent): void;
  forgetRepeats(): void;
}

const BATCHES_PER_SECOND = 20;
/** Of ten batches one is sent event by event, and is no larger than this, and one by each of the other ways. */
const WAYS: readonly Way[] = [...Array<Way>(6).fill("publish"), "v1", "segment", "batch", "single"];
/** Of the ids that a gateway makes of Segment's. */
const SEGMENT_IDS = parseUuid("f06a844b-030a-4022-a9cf-e55997783048") as Uint8Array;
export const SINGLES_MAX = 20;
/** Share of batches that are sent with a secret key. */
const SECRET_SHARE = 0.5;
/** Share of events that are sent again after they were acknowledged, and how much later. */
const REPEAT_SHARE = 0.01;
const REPEAT_MS_MAX = 40_000;
const USERS = 5_000;
/** What is sent later has often happened earlier: facts must not depend on their order. */
const AGE_MS_MAX = 86_400_000;
/** Lost time is caught up with, but not hours of it. */
const DEBT_MS_MAX = 2_000;

export function createEventSource({ seed, eventsPerSecond }: EventSourceOptions): EventSource {
  const random = createRandom(seed);
  const identity = createIdentityTraffic(random);
  const sent = new Map<string, string>();
  let rate = eventsPerSecond;
  let nextBatchAt = performance.now();
  let batches = 0;
  let repeats = 0;
  let repeatsToCome: { at: number; event: LoadEvent }[] = [];

  function newEvent(way: Way, apiKey: string): LoadEvent {
    const n = sent.size;
    const said = identity.next(n, apiKey === API_KEYS.secret) ?? {
      event: n % 7 === 0 ? "checkout" : "page_view",
      distinctId: `user_${n % USERS}`,
      properties: {},
    };
    const hasSource = way === "publish" || way === "single";
    const messageId = randomUUID();
    const event: LoadEvent = {
      id: way === "segment" ? formatUuid(uuidV5(SEGMENT_IDS, `${apiKey} ${messageId}`)) : messageId,
      ...said,
      // The others have no room for the two.
      source: hasSource ? "chaos" : "",
      value: hasSource ? n : undefined,
      timeMs: Date.now() - random.integer(0, AGE_MS_MAX),
      properties: { n, ...PAGE, ...said.properties, ...(way === "segment" && { messageId }) },
      apiKey,
    };
    sent.set(event.id, contentOf(event));
    return event;
  }

  /** All that is due under the key of the first. */
  function takeRepeats(now: number): LoadEvent[] {
    const first = repeatsToCome.find(({ at }) => at <= now);
    if (!first) return [];
    const isTaken = ({ at, event }: { at: number; event: LoadEvent }) =>
      at <= now && event.apiKey === first.event.apiKey;
    const due = repeatsToCome.filter(isTaken).map(({ event }) => event);
    repeatsToCome = repeatsToCome.filter((one) => !isTaken(one));
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
      // Whichever way it came first: to the consumer it must be the same event.
      if (again.length > 0) return { events: again, way: "publish" };
      const way = WAYS[batches++ % WAYS.length] as Way;
      const apiKey = random.next() < SECRET_SHARE ? API_KEYS.secret : API_KEYS.public;
      const size = Math.max(1, Math.round(rate / BATCHES_PER_SECOND));
      const length = way === "single" ? Math.min(size, SINGLES_MAX) : size;
      return { events: Array.from({ length }, () => newEvent(way, apiKey)), way };
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

const PAGE = {
  $current_url: "https://shop.example/products/17?ref=mail",
  plan: "pro",
  price: 12.5,
  browser: "Firefox",
};

/** An event as text, from what was sent. CONTENT_SQL makes the same text of a row. */
function contentOf({ event, distinctId, source, value, timeMs, properties, apiKey }: LoadEvent): string {
  return [event, distinctId, source, value ?? "", timeMs, properties.n, apiKey].join("|");
}

/** Of a row of the view `events`. */
export const CONTENT_SQL = `arrayStringConcat([event, distinct_id, source, ifNull(toString(value), ''),
  toString(toUnixTimestamp64Milli(timestamp)), JSONExtractRaw(properties, 'n'), api_key], '|')`;
