// A caller as it should be: makes its own ids, sends a steady load, and sends again, with the same ids, whatever was not
// acknowledged.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Traffic } from "./audit.ts";

export interface ClientOptions {
  url: string;
  eventsPerSecond: number;
}

export interface StandaloneClient extends Traffic {
  /** Answers that said that the log takes nothing for now. */
  readonly refusals: number;
  /** Requests sent again. */
  readonly retries: number;
  /** Sends until `stop` fires, then what is not acknowledged again until it is; gives up when `abandon` fires. */
  run(stop: AbortSignal, abandon: AbortSignal): Promise<void>;
  /** Sends one more event and resolves with its id when it is acknowledged. */
  sendOne(abandon: AbortSignal): Promise<string>;
}

interface Content {
  event: string;
  distinctId: string;
  value: number | null;
  properties: unknown;
}

interface NewEvent extends Content {
  id: string;
}

interface Verdict {
  rejected?: { index?: number; retryable?: boolean; message?: string }[];
}

const SENDERS = 4;
const REQUESTS_PER_SECOND = 20;
const EVENTS_PER_REQUEST_MAX = 500;
/** Shorter than a freeze: what the frozen process had taken is then sent a second time. */
const REQUEST_MS_MAX = 1_000;
/** Of so many requests one has its answer thrown away, as if it had been lost on its way. */
const ANSWER_LOST_EVERY = 50;
const RETRY_PAUSE_MS = 100;
const STATUS_UNAVAILABLE = 503;

export function createStandaloneClient({ url, eventsPerSecond }: ClientOptions): StandaloneClient {
  const sent = new Map<string, string>();
  const acked = new Set<string>();
  let refusals = 0;
  let retries = 0;
  let requests = 0;

  /** `count` new events; resolves when all of them are acknowledged. */
  async function send(count: number, abandon: AbortSignal): Promise<NewEvent[]> {
    const events = Array.from({ length: count }, (_, i) => newEvent(sent.size + i));
    for (const event of events) sent.set(event.id, contentText(event));
    for (let pending = events; pending.length > 0; ) {
      abandon.throwIfAborted();
      const answered = await publish(pending);
      const unacked = ++requests % ANSWER_LOST_EVERY === 0 ? pending : answered;
      const again = new Set(unacked);
      for (const event of pending) if (!again.has(event)) acked.add(event.id);
      pending = unacked;
      if (pending.length === 0) break;
      retries++;
      await sleep(RETRY_PAUSE_MS);
    }
    return events;
  }

  /** Resolves with those that were not acknowledged. */
  async function publish(events: NewEvent[]): Promise<NewEvent[]> {
    let response: Response;
    let body: string;
    try {
      response = await fetch(`${url}/millrace.events.v1.EventService/Publish`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ events: events.map((event) => ({ source: "chaos", ...event })) }),
        signal: AbortSignal.timeout(REQUEST_MS_MAX),
      });
      body = await response.text();
    } catch {
      // Killed, frozen or not there: nothing is known, so all of it goes again.
      return events;
    }
    if (response.status === STATUS_UNAVAILABLE) refusals++;
    if (response.status >= 500) return events;
    if (!response.ok) throw new Error(`Publish was answered with ${response.status}: ${body}`);
    const { rejected = [] } = JSON.parse(body) as Verdict;
    const final = rejected.find(({ retryable }) => !retryable);
    if (final) throw new Error(`an event of the client's own was refused for good: ${final.message}`);
    if (rejected.length > 0) refusals++;
    // Zero is left out of JSON.
    return rejected.flatMap(({ index = 0 }) => events[index] ?? []);
  }

  async function run(stop: AbortSignal, abandon: AbortSignal): Promise<void> {
    const perRequest = Math.min(EVENTS_PER_REQUEST_MAX, Math.max(1, Math.round(eventsPerSecond / REQUESTS_PER_SECOND)));
    const begun = performance.now();
    async function sender(): Promise<void> {
      while (!stop.aborted) {
        const earlyMs = begun + (sent.size / eventsPerSecond) * 1000 - performance.now();
        if (earlyMs > 0) await sleep(Math.min(earlyMs, RETRY_PAUSE_MS));
        else await send(perRequest, abandon);
      }
    }
    await Promise.all(Array.from({ length: SENDERS }, sender));
  }

  return {
    sent,
    acked,
    get refusals() {
      return refusals;
    },
    get retries() {
      return retries;
    },
    run,
    async sendOne(abandon) {
      const [event] = await send(1, abandon);
      return (event as NewEvent).id;
    },
  };
}

/** What an event says, as text: equal for what was sent and for the row that came of it. */
export function contentText({ event, distinctId, value, properties }: Content): string {
  return JSON.stringify([event, distinctId, value, properties]);
}

/** Content that is different in each event and hard on code that copies bytes: escapes, other scripts, fractions. */
function newEvent(n: number): NewEvent {
  return {
    id: randomUUID(),
    event: n % 7 === 0 ? "check out" : "page_view",
    distinctId: `user_${n % 997}`,
    value: n / 8,
    properties: { n, text: `"${n}"\n\t\\ é 字 \u{1f600}`, list: [n, null, { deep: -1 - n }], flag: n % 2 === 0 },
  };
}
