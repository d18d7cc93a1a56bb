// One watcher: what it has not taken yet, within a bound. The oldest points give way, because what is live is the newest.
import { type LiveFilter, matches } from "./filter.ts";
import type { TailState } from "./log-tail.ts";
import type { LivePoint } from "./point.ts";

export interface LiveStatus {
  state: TailState;
  /** What is wrong while the state is not live; else "". */
  reason: string;
  /** Points that this watcher was too slow to be sent, since it began. */
  dropped: number;
  /** Records of the log that nobody could be shown, since this watcher began. */
  skipped: number;
  /** How often the log was found replaced or cut back since this watcher began. */
  resets: number;
}

/** What a watcher is to be told next: a change of status or a sign of life, then points in the order of the log. */
export interface Delivery {
  status?: LiveStatus;
  points: LivePoint[];
}

/** Held by the sender to one peer. */
export interface Watcher {
  /**
   * Waits until there is something to tell. The first answer is the status as it is. Undefined: ended by `close`.
   * Rejects with the reason when it was ended for the peer (WatchEndedError) or by a fault.
   */
  next(): Promise<Delivery | undefined>;
  /** Idempotent; frees the watcher's place. */
  close(): void;
}

/** A watch ended from this side. */
export class WatchEndedError extends Error {
  override readonly name = "WatchEndedError";
  /** stopping: another copy may take over at once. stalled: the peer takes nothing. */
  readonly why: "stopping" | "stalled";

  constructor(why: "stopping" | "stalled", message: string) {
    super(message);
    this.why = why;
  }
}

/** The side of a watcher that the hub fills. */
export interface WatchQueue extends Watcher {
  readonly filter: LiveFilter;
  offer(points: readonly LivePoint[]): void;
  setState(state: TailState, reason: string): void;
  countSkipped(records: number): void;
  countReset(): void;
  /** Makes the next delivery come now, with the status, if only as a sign of life. */
  beat(): void;
  fail(error: unknown): void;
  /** For a peer that takes nothing: also tells its sender, which may be waiting for the peer and not in `next`. */
  giveUp(): void;
  /** Since when something waits that is not taken, on performance.now()'s clock; undefined: nothing does. */
  readonly waitingSince: number | undefined;
}

export interface WatchQueueOptions {
  filter: LiveFilter;
  maxPoints: number;
  maxBytes: number;
  state: TailState;
  reason: string;
  /** Cuts the peer's connection. */
  hangUp(): void;
  onDropped(points: number): void;
  onClose(): void;
}

/** More in one delivery would hold up a status behind a long write. */
const DELIVERY_POINTS_MAX = 500;

export function createWatchQueue(options: WatchQueueOptions): WatchQueue {
  return new Queue(options);
}

type End = { error: unknown } | "closed";

class Queue implements WatchQueue {
  readonly #options: WatchQueueOptions;
  readonly #status: LiveStatus;
  #points: LivePoint[] = [];
  #bytes = 0;
  #statusDue = true;
  #waitingSince: number | undefined = performance.now();
  #wake: (() => void) | undefined;
  #end: End | undefined;

  constructor(options: WatchQueueOptions) {
    this.#options = options;
    const { state, reason } = options;
    this.#status = { state, reason, dropped: 0, skipped: 0, resets: 0 };
  }

  get filter(): LiveFilter {
    return this.#options.filter;
  }

  get waitingSince(): number | undefined {
    return this.#waitingSince;
  }

  offer(points: readonly LivePoint[]): void {
    const before = this.#points.length;
    for (const point of points) {
      if (!matches(this.filter, point)) continue;
      this.#points.push(point);
      this.#bytes += point.bytes;
    }
    if (this.#points.length === before) return;
    this.#dropOldest();
    this.#ready();
  }

  #dropOldest(): void {
    const { maxPoints, maxBytes, onDropped } = this.#options;
    let dropped = Math.max(0, this.#points.length - maxPoints);
    for (let i = 0; i < dropped; i++) this.#bytes -= (this.#points[i] as LivePoint).bytes;
    // The newest point alone always fits.
    while (this.#bytes > maxBytes && dropped < this.#points.length - 1) {
      this.#bytes -= (this.#points[dropped++] as LivePoint).bytes;
    }
    if (dropped === 0) return;
    this.#points.splice(0, dropped);
    this.#status.dropped += dropped;
    this.#statusDue = true;
    onDropped(dropped);
  }

  setState(state: TailState, reason: string): void {
    Object.assign(this.#status, { state, reason });
    this.beat();
  }

  countSkipped(records: number): void {
    this.#status.skipped += records;
    this.beat();
  }

  countReset(): void {
    this.#status.resets++;
    this.beat();
  }

  beat(): void {
    this.#statusDue = true;
    this.#ready();
  }

  fail(error: unknown): void {
    this.#finish({ error });
  }

  giveUp(): void {
    this.fail(new WatchEndedError("stalled", "what was sent was not taken for too long"));
    this.#options.hangUp();
  }

  close(): void {
    this.#finish("closed");
  }

  async next(): Promise<Delivery | undefined> {
    if (this.#waitingSince === undefined && this.#end === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    if (this.#end === "closed") return undefined;
    if (this.#end !== undefined) throw this.#end.error;
    return this.#take();
  }

  #take(): Delivery {
    const points = this.#points.splice(0, DELIVERY_POINTS_MAX);
    for (const { bytes } of points) this.#bytes -= bytes;
    const delivery = this.#statusDue ? { status: { ...this.#status }, points } : { points };
    this.#statusDue = false;
    this.#waitingSince = this.#points.length > 0 ? performance.now() : undefined;
    return delivery;
  }

  #ready(): void {
    this.#waitingSince ??= performance.now();
    this.#wake?.();
    this.#wake = undefined;
  }

  #finish(end: End): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#points = [];
    this.#wake?.();
    this.#wake = undefined;
    this.#options.onClose();
  }
}
