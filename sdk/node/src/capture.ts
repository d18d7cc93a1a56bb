// The capture queue: events wait in a store, leave it in batches, and are counted until each has its verdict.
import type { EventRejection } from "./call.ts";
import type { Delivery } from "./delivery.ts";
import { type ClientEvent, createEventEncoder, isFault, readEvent } from "./event.ts";
import type { Batch, EventStore } from "./event-store.ts";
import { countOf, type Frames, frameAt, idOf, pickFrames } from "./frames.ts";
import { createProgress } from "./progress.ts";

/**
 * Why an event was given up: it cannot be encoded or the gateway will never take it (`rejected`), it is too large, there
 * was no room for it, the spool could not be written or read, or the client was closed before its turn.
 */
export type DropReason = "invalid" | "too_large" | "queue_full" | "rejected" | "spool_failed" | "closed";

export interface DroppedEvent {
  /** As it was captured; with its id once it had one. */
  event: ClientEvent;
  message: string;
}

export interface Counters {
  /** Events for which `capture` returned true. */
  accepted: number;
  /** Events found in the spool at the start. */
  recovered: number;
  /** Events that are durable at the gateway. */
  sent: number;
  /** Events by the reason they were dropped for. */
  dropped: Record<DropReason, number>;
  /** Pauses before another try of a request. */
  retried: number;
  /** Events that have no verdict yet, those in flight included. */
  queued: number;
}

export interface CaptureOptions {
  store: EventStore;
  delivery: Delivery;
  counters: Counters;
  intervalMs: number;
  maxInFlight: number;
  /** Neither throws. */
  onDrop(reason: DropReason, events: DroppedEvent[]): void;
  onError(error: Error): void;
  /** After each event that was taken. */
  onCaptured(): void;
}

export interface CaptureQueue {
  capture(event: ClientEvent): boolean;
  /** Resolves with true when all that was captured before has its verdict, with false after `timeoutMs`. */
  flush(timeoutMs: number): Promise<boolean>;
  /** Flushes, then gives up on the rest. To be called once. */
  close(timeoutMs: number): Promise<void>;
}

export function createCaptureQueue(options: CaptureOptions): CaptureQueue {
  const { store, counters, onDrop } = options;
  const encode = createEventEncoder();
  const stop = new AbortController();
  const flights = new Set<Promise<void>>();
  const progress = createProgress(store.recovered);
  let timer: NodeJS.Timeout | undefined;
  let isDue = false;
  let isTelling = false;
  let isClosing = false;
  let isClosed = false;

  function pump(): void {
    while (!isClosed && flights.size < options.maxInFlight && store.waiting > 0 && (isDue || store.hasFullBatch)) {
      const batch = store.take();
      // The timer asks again.
      if (!batch) break;
      if ("lost" in batch) lose(batch.lost);
      else launch(batch);
    }
    if (store.waiting === 0) isDue = false;
    else if (timer === undefined && !isClosed) {
      timer = setTimeout(onTimer, options.intervalMs);
      timer.unref();
    }
  }

  function lose(events: number): void {
    counters.queued -= events;
    counters.dropped.spool_failed += events;
    progress.lost(events);
  }

  function onTimer(): void {
    timer = undefined;
    isDue = true;
    pump();
  }

  function launch(batch: Batch): void {
    const flight = send(batch, progress.taken(countOf(batch.frames))).finally(() => {
      flights.delete(flight);
      pump();
    });
    flights.add(flight);
  }

  /** Never rejects: nobody is there to catch it. */
  async function send(batch: Batch, part: number): Promise<void> {
    const { frames, checkStored } = batch;
    const open = new Set(frames.ends.keys());
    const rejected: DroppedEvent[] = [];
    const onVerdict = (index: number, rejection: EventRejection | undefined) => {
      open.delete(index);
      if (rejection) rejected.push({ event: readEvent(frameAt(frames, index)), message: textOf(rejection) });
      else counters.sent += 1;
      counters.queued -= 1;
    };
    try {
      const order = { signal: stop.signal, checkStored, holdsRefused: true, keepsAlive: false, onVerdict };
      await options.delivery(frames, order);
      batch.settle();
      progress.settled(part);
    } catch (error) {
      if (!stop.signal.aborted) options.onError(error as Error);
      giveUp(pickFrames(frames, [...open]));
    } finally {
      drop("rejected", rejected);
    }
  }

  function drop(reason: DropReason, events: DroppedEvent[]): void {
    if (events.length === 0) return;
    counters.dropped[reason] += events.length;
    // A hook that captures when there is no room would be told of that, and capture again, without end.
    if (isTelling) return;
    isTelling = true;
    onDrop(reason, events);
    isTelling = false;
  }

  /** The end of events that have no verdict at close. On disk they wait for the next process. */
  function giveUp(frames: Frames): void {
    if (store.isDurable) return;
    counters.queued -= countOf(frames);
    const message = "the client was closed before the gateway took it";
    drop(
      "closed",
      Array.from(frames.ends.keys(), (index) => ({ event: readEvent(frameAt(frames, index)), message })),
    );
  }

  function refuse(reason: DropReason, event: ClientEvent, message: string): false {
    drop(reason, [{ event, message }]);
    return false;
  }

  function flush(timeoutMs: number): Promise<boolean> {
    isDue = true;
    pump();
    return progress.reach(timeoutMs);
  }

  if (store.recovered > 0) {
    isDue = true;
    pump();
  }

  return {
    capture(event) {
      if (isClosing) return refuse("closed", event, "the client is closed");
      const encoded = encode(event);
      if (isFault(encoded)) {
        const { code, field, message } = encoded;
        return refuse(code === "too_large" ? code : "invalid", event, `${field} ${message}`.trim());
      }
      const outcome = store.push(encoded.frame);
      if (outcome !== "kept") {
        const made = { ...event, id: idOf(encoded.frame) };
        if (outcome === "full") return refuse("queue_full", made, "no room is left for it");
        return refuse("spool_failed", made, "the spool could not be written");
      }
      progress.captured();
      counters.accepted += 1;
      counters.queued += 1;
      options.onCaptured();
      if (store.hasFullBatch || timer === undefined) pump();
      return true;
    },
    flush,
    async close(timeoutMs) {
      isClosing = true;
      await flush(timeoutMs);
      isClosed = true;
      clearTimeout(timer);
      stop.abort(new Error("the client was closed"));
      await Promise.all(flights);
      while (!store.isDurable && store.waiting > 0) {
        const batch = store.take();
        if (batch && "frames" in batch) giveUp(batch.frames);
      }
      store.close();
      progress.end();
    },
  };
}

function textOf({ field, message }: EventRejection): string {
  return field === "" ? message : `${field} ${message}`;
}
