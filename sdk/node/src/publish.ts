// `publish`: events of one call, until each has a verdict or the time is over.
import { Code, ConnectError } from "@connectrpc/connect";
import type { EventRejection } from "./call.ts";
import { type Delivery, RefusedError } from "./delivery.ts";
import { type ClientEvent, createEventEncoder, isFault } from "./event.ts";
import { type Frames, idOf, joinFrames } from "./frames.ts";
import { timeoutOf } from "./options.ts";

export interface PublishOptions {
  /** Time for all retries together. Default 60,000. */
  timeoutMs?: number | undefined;
  /** Gives up earlier; `publish` then rejects with its reason. */
  signal?: AbortSignal | undefined;
  /** Some of these may have been sent more than an hour ago: their ids are looked up among the stored events. */
  checkStored?: boolean | undefined;
}

export interface Verdicts {
  /** Events that are durable. */
  accepted: number;
  /** The others, by index. `retryable`: the gateway could not take it in the time that was given. */
  rejected: EventRejection[];
  /** Ids of all events, in the order they were handed over. */
  ids: string[];
}

/** Some events have no verdict. With the same `ids` they can be published again without becoming two. */
export class PublishError extends Error {
  override readonly name = "PublishError";
  /** As Connect spells it: "unavailable", "unauthenticated". */
  readonly code: string;
  /** False: the gateway refuses this caller, and will again. */
  readonly retryable: boolean;
  /** What is known. `accepted` and `rejected` speak of some events only. */
  readonly verdicts: Verdicts;

  constructor(message: string, cause: unknown, retryable: boolean, verdicts: Verdicts) {
    super(message, { cause });
    this.code = codeName(cause);
    this.retryable = retryable;
    this.verdicts = verdicts;
  }
}

export interface PublisherOptions {
  url: string;
  /** `onRetry` hears of each failed try. */
  createDelivery(onRetry: (error: Error) => void): Delivery;
  batchEvents: number;
  batchBytes: number;
}

export type Publish = (
  events: ClientEvent | readonly ClientEvent[],
  options?: PublishOptions | undefined,
) => Promise<Verdicts>;

const TIMEOUT_MS = 60_000;

export function createPublish({ url, createDelivery, batchEvents, batchBytes }: PublisherOptions): Publish {
  const encode = createEventEncoder();

  /** Groups of a request each, with the index of each event; what cannot be sent is rejected. */
  function prepare(events: readonly ClientEvent[], verdicts: Verdicts): { frames: Frames; indexes: number[] }[] {
    const groups: { parts: Uint8Array[]; indexes: number[]; bytes: number }[] = [];
    for (const [index, event] of events.entries()) {
      const encoded = encode(event);
      verdicts.ids.push(isFault(encoded) ? String(event?.id ?? "") : idOf(encoded.frame));
      if (isFault(encoded)) {
        verdicts.rejected.push({ index, ...encoded, retryable: false });
        continue;
      }
      let group = groups.at(-1);
      if (!group || group.parts.length >= batchEvents || group.bytes + encoded.frame.length > batchBytes) {
        group = { parts: [], indexes: [], bytes: 0 };
        groups.push(group);
      }
      group.parts.push(new Uint8Array(encoded.frame));
      group.indexes.push(index);
      group.bytes += encoded.frame.length;
    }
    return groups.map(({ parts, indexes }) => ({ frames: joinFrames(parts), indexes }));
  }

  return async (given, { timeoutMs = TIMEOUT_MS, signal, checkStored = false } = {}) => {
    signal?.throwIfAborted();
    const events = Array.isArray(given) ? (given as readonly ClientEvent[]) : [given as ClientEvent];
    const verdicts: Verdicts = { accepted: 0, rejected: [], ids: [] };
    const groups = prepare(events, verdicts);
    const open = new Set(groups.flatMap(({ indexes }) => indexes));
    const later = new Map<number, EventRejection>();
    let lastError: Error | undefined;
    const delivery = createDelivery((error) => {
      lastError = error;
    });
    const limit = createLimit(timeoutOf(timeoutMs), signal);
    const order = { signal: limit.signal, checkStored, holdsRefused: false, keepsAlive: true };
    try {
      for (const { frames, indexes } of groups) {
        const indexOf = (at: number) => indexes[at] as number;
        await delivery(frames, {
          ...order,
          onVerdict(at, rejection) {
            open.delete(indexOf(at));
            if (rejection) verdicts.rejected.push({ ...rejection, index: indexOf(at) });
            else verdicts.accepted += 1;
          },
          onLater: (at, rejection) => later.set(indexOf(at), { ...rejection, index: indexOf(at) }),
        });
      }
    } catch (error) {
      signal?.throwIfAborted();
      verdicts.rejected.push(...Array.from(later.values()).filter(({ index }) => open.has(index)));
      if (error instanceof RefusedError) {
        throw new PublishError(`${url}: ${error.message}`, error.cause, false, sorted(verdicts));
      }
      if (!limit.signal.aborted) throw error;
      const isAnswered = [...open].every((index) => later.has(index));
      if (!isAnswered)
        throw new PublishError(timeoutText(url, timeoutMs, lastError), lastError, true, sorted(verdicts));
    } finally {
      limit.end();
    }
    return sorted(verdicts);
  };
}

function sorted(verdicts: Verdicts): Verdicts {
  verdicts.rejected.sort((a, b) => a.index - b.index);
  return verdicts;
}

/** Fires after `timeoutMs`, keeping the process alive until then, and when `signal` does. */
function createLimit(timeoutMs: number, signal: AbortSignal | undefined): { signal: AbortSignal; end(): void } {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Error(`no verdict within ${timeoutMs} ms`)), timeoutMs);
  const onAbort = () => limit.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  return {
    signal: limit.signal,
    end() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    },
  };
}

function timeoutText(url: string, timeoutMs: number, error: Error | undefined): string {
  const reason = error instanceof ConnectError ? error.rawMessage : (error?.message ?? "no answer");
  return `${url} did not take the events within ${timeoutMs} ms: ${reason}`;
}

function codeName(cause: unknown): string {
  const name = cause instanceof ConnectError ? (Code[cause.code] ?? "Unknown") : "DeadlineExceeded";
  return name.replace(/(?<=.)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
