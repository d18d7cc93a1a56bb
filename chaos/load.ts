// A caller as it should be: it chooses its events' ids, and sends again, with the same ids, what was not acknowledged. Now
// and then it forgets that it has had an answer, and sends an event a second time.
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { IDENTITY_EVENTS } from "#lib/identity/facts.ts";
import { createEventSource, type LoadEvent, SINGLES_MAX, type Way } from "./event-source.ts";
import { SENDS } from "./requests.ts";

export interface LoadOptions {
  /** Ports on 127.0.0.1; each request goes to one of them at random. */
  ports: readonly number[];
  /** Decides what is said about people. */
  seed: number;
  eventsPerSecond: number;
}

export interface Load {
  /** By id: the event as text, comparable with what was stored. */
  readonly sent: ReadonlyMap<string, string>;
  readonly acked: ReadonlySet<string>;
  /** Acknowledged events that may say something about people, once each. */
  readonly told: readonly LoadEvent[];
  /** Distinct ids of acknowledged events. */
  readonly distinctIds: ReadonlySet<string>;
  /** Requests that ended without an answer, or with one that says to retry. */
  readonly retries: number;
  /** Events that were sent once more although they had been acknowledged. */
  readonly repeats: number;
  /** What a gateway refused for good. Anything here is a fault. */
  readonly refused: readonly string[];
  readonly isPaused: boolean;
  /** Sends nothing until resumed; resolves when everything sent is acknowledged. */
  pause(): Promise<void>;
  /** Repetitions that were to come do not: what they repeat is no longer on the log, or the run is over. */
  forgetRepeats(): void;
  resume(eventsPerSecond: number): void;
  /** Ends at once, whatever is unanswered. */
  abort(): void;
}

/** Requests at once; an event that is not acknowledged keeps its place among them. */
const LANES = 12;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1_000;
const IDLE_MS = 20;

export function startLoad(options: LoadOptions): Load {
  const source = createEventSource(options);
  const acked = new Set<string>();
  const told: LoadEvent[] = [];
  const distinctIds = new Set<string>();
  const refused: string[] = [];
  const ending = new AbortController();
  const agent = new http.Agent({ keepAlive: true, maxSockets: LANES + SINGLES_MAX });
  let isPaused = false;
  let busy = 0;
  let retries = 0;

  async function work(): Promise<void> {
    while (!ending.signal.aborted) {
      const parcel = isPaused ? undefined : source.next();
      if (!parcel) {
        await rest(IDLE_MS);
        continue;
      }
      const { events, way } = parcel;
      busy++;
      await (way === "single" ? Promise.all(events.map((event) => deliver([event], way))) : deliver(events, way));
      busy--;
    }
  }

  async function deliver(events: LoadEvent[], way: Way): Promise<void> {
    let pending = events;
    for (let restMs = RETRY_MS_MIN; ; restMs = Math.min(restMs * 2, RETRY_MS_MAX)) {
      const port = options.ports[Math.floor(Math.random() * options.ports.length)] as number;
      const verdicts = await SENDS[way]({ agent, port, signal: ending.signal }, pending);
      for (const [i, event] of pending.entries()) {
        const verdict = verdicts[i];
        if (verdict === "acked") noteAcked(event);
        else if (verdict !== "again") refused.push(`${event.id}: ${verdict}`);
      }
      pending = pending.filter((_, i) => verdicts[i] === "again");
      if (pending.length === 0 || ending.signal.aborted) return;
      retries++;
      await rest(restMs / 2 + (Math.random() * restMs) / 2);
    }
  }

  function noteAcked(event: LoadEvent): void {
    if (acked.has(event.id)) return;
    acked.add(event.id);
    distinctIds.add(event.distinctId);
    if (IDENTITY_EVENTS.has(event.event)) told.push(event);
    source.noteAcked(event);
  }

  async function rest(ms: number): Promise<void> {
    // An end of the load merely ends the rest; the loops look at the signal.
    await sleep(ms, undefined, { signal: ending.signal }).catch(() => undefined);
  }

  void Promise.all(Array.from({ length: LANES }, work)).then(() => agent.destroy());
  return {
    sent: source.sent,
    acked,
    told,
    distinctIds,
    refused,
    get retries() {
      return retries;
    },
    get repeats() {
      return source.repeats;
    },
    get isPaused() {
      return isPaused;
    },
    async pause() {
      isPaused = true;
      while (busy > 0 && !ending.signal.aborted) await sleep(IDLE_MS);
    },
    forgetRepeats: source.forgetRepeats,
    resume(eventsPerSecond) {
      source.setRate(eventsPerSecond);
      isPaused = false;
    },
    abort: () => ending.abort(),
  };
}
