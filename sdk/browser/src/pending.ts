// Events captured before the queue is ready.
import { native } from "./native.ts";
import type { Row } from "./queue-store.ts";
import type { AnalyticsEvent, Counters } from "./types.ts";

const CHARS_MAX = 4_000_000;
/** Below it the clocks merely drift apart. */
const JUMP_MS_MIN = 1000;

/** An event of this page that no answer has been seen for. */
export class Item implements Row {
  readonly uuid: string;
  json: string;
  /** "stashed": where writing is done at once, and not yet in the database. */
  saved: "no" | "saving" | "stashed" | "yes" = "no";
  /** Part of a request whose answer is awaited. */
  isInFlight = false;
  /** A closing request holds it. */
  isHandedOver = false;
  /** Some request had it. Sent again with another id in it, the server would not know it by its uuid. */
  wasSent = false;
  readonly #atMs: number;
  readonly #monotonicMs: number | undefined;

  constructor(event: AnalyticsEvent, json: string, isOwnTime: boolean) {
    this.uuid = event.uuid;
    this.json = json;
    this.#atMs = Date.parse(event.timestamp);
    this.#monotonicMs = isOwnTime ? native.monotonicMs() : undefined;
  }

  /**
   * By the clock of now: the server corrects times by `sent_at`, which would be wrong for an event from before the clock
   * was set back. A clock that is ahead of what has passed may as well have slept with the machine, and is believed.
   */
  jsonNow(): string {
    if (this.#monotonicMs === undefined) return this.json;
    const wasMs = native.nowMs() - (native.monotonicMs() - this.#monotonicMs);
    if (this.#atMs - wasMs < JUMP_MS_MIN) return this.json;
    const event = native.parse(this.json) as AnalyticsEvent;
    event.timestamp = new Date(wasMs).toISOString();
    return native.stringify(event);
  }
}

/** The events of this page that wait for an answer, oldest first, bounded in number and size. */
export class Pending {
  readonly #items = new Map<string, Item>();
  readonly #most: number;
  readonly #counters: Counters;
  #chars = 0;

  constructor(most: number, counters: Counters) {
    this.#most = Math.max(1, most);
    this.#counters = counters;
  }

  get size(): number {
    return this.#items.size;
  }

  items(): Item[] {
    return [...this.#items.values()];
  }

  /** Returns what had to go from the store too. */
  add(event: AnalyticsEvent, json: string, isOwnTime: boolean): string[] {
    const item = new Item(event, json, isOwnTime);
    const dropped: string[] = [];
    this.#items.set(item.uuid, item);
    this.#chars += json.length;
    for (const { isInFlight, saved, uuid } of this.#items.values()) {
      if (this.#items.size <= this.#most && this.#chars <= CHARS_MAX) break;
      if (isInFlight) continue;
      this.delete(uuid);
      if (saved !== "no") dropped.push(uuid);
      this.#counters.overflow++;
    }
    this.#counters.queued = this.#items.size;
    return dropped;
  }

  /** Its row had to make room. One whose answer is awaited ends by that, and is stored again if there is none. */
  evicted(uuid: string): void {
    const item = this.#items.get(uuid);
    if (item?.isInFlight) item.saved = "no";
    else if (this.delete(uuid)) this.#counters.overflow++;
  }

  markInFlight(uuids: readonly string[], isInFlight: boolean): void {
    for (const uuid of uuids) {
      const item = this.#items.get(uuid);
      if (!item) continue;
      item.isInFlight = isInFlight;
      item.wasSent = true;
    }
  }

  /** False when it is not there. */
  delete(uuid: string): boolean {
    const item = this.#items.get(uuid);
    if (!item) return false;
    this.#items.delete(uuid);
    this.#chars -= item.json.length;
    this.#counters.queued = this.#items.size;
    return true;
  }

  /** For ids only: they occur as they are in JSON. */
  replace(from: string, to: string): void {
    for (const item of this.#items.values()) {
      if (item.wasSent || !item.json.includes(from)) continue;
      item.json = item.json.replaceAll(from, to);
      // What a closing page has stored already has to be stored again.
      item.saved = "no";
    }
  }
}
