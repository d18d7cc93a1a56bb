// The client as a whole: one transport, `publish` for callers that wait, `capture` for those that do not.
import { createPublishCall } from "./call.ts";
import { type Counters, createCaptureQueue, type DropReason } from "./capture.ts";
import { createDelivery } from "./delivery.ts";
import type { ClientEvent } from "./event.ts";
import type { EventStore } from "./event-store.ts";
import { createMemoryStore } from "./memory-store.ts";
import {
  type ClientOptions,
  type Hooks,
  hooksOf,
  type Numbers,
  numbersOf,
  spoolBytesOf,
  timeoutOf,
} from "./options.ts";
import { createPublish, type Publish } from "./publish.ts";
import { openSpool } from "./spool.ts";
import { createTransport } from "./transport.ts";

export interface Client extends AsyncDisposable {
  /**
   * Resolves with the verdict on each event; transient failures are retried meanwhile under the same ids. Rejects with
   * PublishError when the time is over and some event has no verdict, and when the gateway refuses this caller.
   */
  publish: Publish;
  /**
   * Queues one event and returns at once: true when it is queued. With a spool it is in the file system then, and
   * survives a kill of the process. False when it was dropped, which `onDrop` and the counters explain. Never throws.
   */
  capture(event: ClientEvent): boolean;
  /**
   * Sends what was captured before, without waiting for more. Resolves with true when all of it has its verdict, with
   * false when the time is over first; the events stay queued then. Default 30,000 ms.
   */
  flush(options?: { timeoutMs?: number | undefined }): Promise<boolean>;
  /**
   * Flushes, then drops what is left, or leaves it in the spool for the next start. Nothing can be captured from its
   * call on. Idempotent.
   */
  close(options?: { timeoutMs?: number | undefined }): Promise<void>;
  /** Of captured events, since the client was made. */
  counters(): Counters;
}

const FLUSH_TIMEOUT_MS = 30_000;
const BACKOFF_MS = { base: 200, max: 15_000 };

/**
 * Connects when the first event is sent. Throws a TypeError for options that cannot be, SpoolInUseError when another
 * process has the spool's directory, and the file system's error when it cannot be used.
 */
export function createClient(options: ClientOptions): Client {
  const numbers = numbersOf(options);
  const hooks = hooksOf(options);
  const { url, closeTimeoutMs, backoffMs = BACKOFF_MS } = { ...options, ...numbers };
  const { transport, close: disconnect } = createTransport(options);
  const call = createPublishCall(transport, numbers.requestTimeoutMs);
  const store = createStore(options, numbers, hooks);
  const counters = emptyCounters(store.recovered);

  const observed: typeof call = async (...request) => {
    const outcome = await call(...request);
    if (outcome.kind === "verdicts") hooks.onSent();
    return outcome;
  };
  const delivery = createDelivery({
    call: observed,
    backoffMs,
    onRetry(error, delayMs) {
      counters.retried += 1;
      hooks.onRetry(error, delayMs);
    },
  });
  const { onDrop, onError } = hooks;
  const { intervalMs, maxInFlight } = numbers;
  const queue = createCaptureQueue({
    store,
    delivery,
    counters,
    intervalMs,
    maxInFlight,
    onDrop,
    onError,
    onCaptured() {
      if (hooks.waitUntil && !isDraining) hooks.waitUntil(drain());
    },
  });
  const publish = createPublish({
    url,
    createDelivery: (onRetry) => createDelivery({ call, backoffMs, onRetry }),
    ...numbers,
  });
  let closing: Promise<void> | undefined;
  let isDraining = false;

  async function drain(): Promise<void> {
    isDraining = true;
    // What is captured in the same turn belongs into the same request.
    await new Promise((resolve) => setImmediate(resolve));
    const deadline = performance.now() + FLUSH_TIMEOUT_MS;
    let isThrough = true;
    while (isThrough && counters.queued > 0 && !closing) {
      const leftMs = deadline - performance.now();
      isThrough = leftMs > 0 && (await queue.flush(leftMs));
    }
    isDraining = false;
  }

  const onExit = () => {
    // Its timer holds the process until then; what is left when it is over would hold it for ever.
    if (counters.queued > 0) void queue.flush(closeTimeoutMs);
  };
  if (options.flushOnExit ?? true) process.once("beforeExit", onExit);

  async function close(timeoutMs: number): Promise<void> {
    process.off("beforeExit", onExit);
    await queue.close(timeoutMs);
    disconnect();
  }

  const client: Client = {
    publish,
    capture: (event) => queue.capture(event),
    flush: async ({ timeoutMs = FLUSH_TIMEOUT_MS } = {}) => queue.flush(timeoutOf(timeoutMs)),
    async close({ timeoutMs = closeTimeoutMs } = {}) {
      closing ??= close(timeoutOf(timeoutMs));
      return closing;
    },
    counters: () => ({ ...counters, dropped: { ...counters.dropped } }),
    [Symbol.asyncDispose]: () => client.close(),
  };
  return client;
}

function createStore({ spool }: ClientOptions, numbers: Numbers, { onError }: Hooks): EventStore {
  const { maxQueueEvents: maxEvents, maxQueueBytes: maxBytes, batchEvents, batchBytes } = numbers;
  if (!spool) return createMemoryStore({ batchEvents, batchBytes, maxEvents, maxBytes });
  return openSpool({ dir: spool.dir, maxBytes: spoolBytesOf(spool), batchEvents, batchBytes, onError });
}

function emptyCounters(recovered: number): Counters {
  const reasons: DropReason[] = ["invalid", "too_large", "queue_full", "rejected", "spool_failed", "closed"];
  const dropped = Object.fromEntries(reasons.map((reason) => [reason, 0])) as Record<DropReason, number>;
  return { accepted: 0, recovered, sent: 0, dropped, retried: 0, queued: recovered };
}
