// Events → the gateway, until each has its verdict: retries with the same ids, only what is open, halves of what is too much.
import type { Code, ConnectError } from "@connectrpc/connect";
import type { EventRejection, Outcome, PublishCall } from "./call.ts";
import { countOf, type Frames, frameAt, pickFrames } from "./frames.ts";

export interface DeliveryOptions {
  call: PublishCall;
  /** Upper bound of the first pause, and of every pause beyond what Retry-After asks for. */
  backoffMs: { base: number; max: number };
  /** Before each pause. */
  onRetry(error: Error, delayMs: number): void;
  random?: () => number;
}

export interface DeliveryOrder {
  signal: AbortSignal;
  /** An earlier process may have sent some of these. */
  checkStored: boolean;
  /** A wrong key or address: true waits for its repair, false rejects with RefusedError. */
  holdsRefused: boolean;
  /** False: its pauses alone do not keep the process alive. */
  keepsAlive: boolean;
  /** Once for each event: it is durable, or will never be taken. */
  onVerdict(index: number, rejection: EventRejection | undefined): void;
  /** An event that is not taken now; it is sent again. */
  onLater?(index: number, rejection: EventRejection): void;
}

/** Resolves when each event has its verdict. Rejects with RefusedError, or with the signal's reason. */
export type Delivery = (frames: Frames, order: DeliveryOrder) => Promise<void>;

/** The gateway takes nothing from this caller; `cause` is the ConnectError. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly code: Code;

  constructor(cause: ConnectError) {
    super(cause.rawMessage, { cause });
    this.code = cause.code;
  }
}

// The consumer recognises a repeated id for an hour, but for no more than two million events a partition, and other
// callers fill that in minutes at full load. After a minute of not knowing, the id is looked up in the tables instead.
const UNKNOWN_MS_MAX = 60_000;
/** A proxy that is busy says the same of any size. A gateway says it of what is near the 900,000 bytes that it takes. */
const TOO_LARGE_BYTES_MIN = 800_000;

/** Events whose fate was open since `since` at the latest; undefined: nothing of them was sent. */
interface Doubt {
  since: Age | undefined;
}

export function createDelivery({ call, backoffMs, onRetry, random = Math.random }: DeliveryOptions): Delivery {
  async function wait(error: Error, attempt: number, atLeastMs: number, order: DeliveryOrder): Promise<void> {
    // Full jitter, so that processes that failed together do not come back together.
    const ceiling = Math.min(backoffMs.max, backoffMs.base * 2 ** Math.min(attempt, 30));
    const delayMs = atLeastMs + random() * ceiling;
    onRetry(error, delayMs);
    await pause(delayMs, order);
  }

  async function deliverPart(all: Frames, first: readonly number[], order: DeliveryOrder, doubt: Doubt): Promise<void> {
    let open = first;
    for (let attempt = 0; open.length > 0; attempt += 1) {
      const frames = open.length === countOf(all) ? all : pickFrames(all, open);
      const isForgotten = doubt.since !== undefined && doubt.since.ms() > UNKNOWN_MS_MAX;
      const sent = createAge();
      const outcome = await call(frames, order.checkStored || isForgotten, order.signal);
      if (outcome.kind === "verdicts") {
        const later = sortVerdicts(outcome.rejected, open, order);
        open = later.map(({ index }) => index);
        const [reason] = later;
        // The log not having answered in time does not mean that it will not have the event.
        if (reason === undefined) return;
        doubt.since ??= sent;
        await wait(new Error(reason.message), attempt, 0, order);
      } else if (outcome.kind === "later") {
        if (outcome.isDoubtful) doubt.since ??= sent;
        await wait(outcome.error, attempt, outcome.afterMs, order);
      } else if (outcome.kind === "refused") {
        if (!order.holdsRefused) throw new RefusedError(outcome.error);
        await wait(outcome.error, attempt, 0, order);
      } else if (open.length > 1) {
        const middle = Math.ceil(open.length / 2);
        // Each half has its own memory of what may be stored of it.
        await deliverPart(all, open.slice(0, middle), order, { ...doubt });
        return deliverPart(all, open.slice(middle), order, { ...doubt });
      } else {
        const index = open[0] as number;
        const verdict = verdictOn(outcome, index, frameAt(all, index).length);
        if (verdict) return order.onVerdict(index, verdict);
        await wait(outcome.error, attempt, 0, order);
      }
    }
  }

  return (frames, order) => deliverPart(frames, [...frames.ends.keys()], order, { since: undefined });
}

/** Hands on what is final; the others come back under their own indexes. */
function sortVerdicts(
  rejected: readonly EventRejection[],
  open: readonly number[],
  order: DeliveryOrder,
): EventRejection[] {
  const byPosition = new Map(rejected.map((rejection) => [rejection.index, rejection]));
  const later: EventRejection[] = [];
  for (const [position, index] of open.entries()) {
    const found = byPosition.get(position);
    const rejection = found && { ...found, index };
    if (rejection?.retryable) later.push(rejection);
    else order.onVerdict(index, rejection);
  }
  for (const rejection of later) order.onLater?.(rejection.index, rejection);
  return later;
}

/** Of a request with one event; undefined when it says nothing about the event. */
function verdictOn(
  outcome: Extract<Outcome, { kind: "too large" | "unreadable" }>,
  index: number,
  bytes: number,
): EventRejection | undefined {
  const message = outcome.error.rawMessage;
  if (outcome.kind === "unreadable") return { index, code: "invalid", field: "", message, retryable: false };
  if (!outcome.isCertain && bytes < TOO_LARGE_BYTES_MIN) return undefined;
  return { index, code: "too_large", field: "", message: "is larger than the gateway takes", retryable: false };
}

interface Age {
  ms(): number;
}

/** The monotonic clock stands still while a laptop sleeps and the wall clock may be set back: the larger one is right. */
function createAge(): Age {
  const [wall, monotonic] = [Date.now(), performance.now()];
  return { ms: () => Math.max(Date.now() - wall, performance.now() - monotonic) };
}

function pause(ms: number, { signal, keepsAlive }: DeliveryOrder): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    if (!keepsAlive) timer.unref();
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
