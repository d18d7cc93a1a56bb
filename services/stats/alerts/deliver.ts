// Tells receivers of changes: at least once each, in order for one subject, for a day. What is still to be told is in
// alert_events, so all of this may die and begin again; the queue here holds the oldest of it.
import type { Logger } from "#lib/process/log.ts";
import { retryForever } from "#lib/process/retry.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { createSlots } from "./deliver-slots.ts";
import type { AlertMetrics } from "./evaluator-metrics.ts";
import type { Lease } from "./lease.ts";
import { type DeliveryOutcome, subjectKey, type TransitionStore, type Undelivered } from "./transitions.ts";
import { type SendWebhook, WebhookError } from "./webhook.ts";

export interface Backoff {
  /** Upper bound of the first pause, milliseconds. */
  baseMs: number;
  /** Upper bound of every pause, milliseconds. */
  capMs: number;
}

export interface DelivererOptions {
  lease: Lease;
  store: TransitionStore;
  send: SendWebhook;
  /** Webhook of the alert as it is now; undefined when it was deleted. */
  postOf(alertId: string): string | undefined;
  backoff: Backoff;
  /** Changes in memory, of some kilobytes each; up to twice as many after a refill. */
  pendingMax: number;
  nowMs: () => number;
  metrics: AlertMetrics;
  logger: Logger;
}

export interface Deliverer {
  /** Changes that wait for their delivery here. */
  readonly pending: number;
  /** Some changes are in the table only, because the queue was full, and now there is room for them. */
  readonly needsRefill: boolean;
  /** Changes that were just stored. Those over the bound are left to the table. */
  add(changes: readonly Undelivered[]): void;
  /** Whatever the table still has to tell, its oldest first. */
  refill(): Promise<void>;
  /** Resolves when nothing is under way any more, after the lease was lost. */
  ended(): Promise<void>;
}

const SENDING_MAX = 32;
const SENDING_TO_ONE_MAX = 4;
/** A change is told for as long as this after it happened, milliseconds. */
const GIVE_UP_MS = 24 * 3_600_000;
const STORE_BACKOFF: Backoff = { baseMs: 100, capMs: 10_000 };
const ERROR_CHARS_MAX = 500;

/** The alert is gone, and with it the receiver. */
class AlertDeletedError extends Error {
  override readonly name = "AlertDeletedError";
}

export function createDeliverer(options: DelivererOptions): Deliverer {
  const { lease, store, send, postOf, pendingMax, nowMs, metrics, logger } = options;
  const slots = createSlots(SENDING_MAX, SENDING_TO_ONE_MAX);
  const lanes = new Map<string, Undelivered[]>();
  const running = new Set<Promise<void>>();
  const queued = new Set<string>();
  /** Told, and possibly not yet so in what a query that is under way has seen of the table. */
  const done = new Set<string>();
  let isBehind = false;

  function enqueue(change: Undelivered): void {
    if (queued.has(change.transitionId) || done.has(change.transitionId)) return;
    queued.add(change.transitionId);
    const key = subjectKey(change);
    const lane = lanes.get(key);
    if (lane) return void lane.push(change);
    const started = [change];
    lanes.set(key, started);
    const run = runLane(key, started).finally(() => running.delete(run));
    running.add(run);
  }

  async function runLane(key: string, lane: Undelivered[]): Promise<void> {
    try {
      for (let change = lane[0]; change; change = lane[0]) {
        await deliver(change);
        settle(change.transitionId);
        lane.shift();
      }
    } catch (err) {
      // After the loss of the lease this is its consequence. Otherwise the next refill finds what is left.
      if (!lease.lost.aborted) logger.error({ err }, "deliveries of an alert were interrupted");
    } finally {
      lanes.delete(key);
      for (const { transitionId } of lane) queued.delete(transitionId);
    }
  }

  function settle(id: string): void {
    queued.delete(id);
    done.add(id);
    for (const oldest of done) {
      if (done.size <= pendingMax) return;
      done.delete(oldest);
    }
  }

  async function deliver(change: Undelivered): Promise<void> {
    const { transitionId, alertId, atMs } = change;
    let attempts = 0;
    const about = { transitionId, alertId };
    const record = (kind: DeliveryOutcome["kind"], httpStatus: number, error: string) =>
      keep({ kind, transitionId, alertId, atMs: nowMs(), attempts, httpStatus, error });
    try {
      const { status } = await retryForever((signal) => attempt(change, () => attempts++, signal), {
        signal: lease.lost,
        ...options.backoff,
        isTransient: (error) => error instanceof WebhookError && nowMs() - atMs < GIVE_UP_MS,
        onRetry({ attempt, delayMs, error }) {
          metrics.deliveries.inc({ result: "retried" });
          // Once: a receiver that is away for an hour is one fact.
          logger[attempt === 1 ? "warn" : "debug"]({ ...about, err: error, delayMs }, "webhook failed, trying again");
        },
      });
      await record("delivered", status, "");
      metrics.deliveries.inc({ result: "delivered" });
    } catch (error) {
      if (!(error instanceof WebhookError || error instanceof AlertDeletedError)) throw error;
      logger.error({ ...about, err: error, attempts }, "webhook given up");
      const status = error instanceof WebhookError ? (error.status ?? 0) : 0;
      await record("failed", status, error.message.slice(0, ERROR_CHARS_MAX));
      metrics.deliveries.inc({ result: "failed" });
    }
  }

  async function attempt({ alertId, transitionId, payload }: Undelivered, count: () => void, signal: AbortSignal) {
    const receiver = receiverOf(postOf(alertId));
    const giveBack = await slots.take(receiver, signal);
    try {
      await lease.confirm();
      // Asked again: the wait may have been long.
      const post = postOf(alertId);
      if (post === undefined)
        throw new AlertDeletedError("the alert was deleted before its receiver could be notified");
      count();
      return await send({ post, body: payload, transitionId, signal });
    } finally {
      giveBack();
    }
  }

  /** Without it the change would be told again, by the next holder of the lease. */
  function keep(outcome: DeliveryOutcome): Promise<void> {
    const attemptToKeep = async (signal: AbortSignal) => {
      await lease.confirm();
      await store.insertOutcome(outcome, signal);
    };
    return retryForever(attemptToKeep, {
      signal: lease.lost,
      ...STORE_BACKOFF,
      isTransient: (error) => error instanceof WarehouseError && error.kind === "transient",
      onRetry: ({ attempt, error }) => {
        if (attempt === 1) logger.warn({ err: error }, "outcome of a webhook not stored, trying again");
      },
    });
  }

  return {
    get pending() {
      return queued.size;
    },
    get needsRefill() {
      return isBehind && queued.size <= pendingMax / 2;
    },
    add(changes) {
      // Once something was left to the table, what comes after it must come from there too, or it would be told first.
      if (isBehind || queued.size + changes.length > pendingMax) isBehind = true;
      else for (const change of changes) enqueue(change);
    },
    async refill() {
      const found = await store.undelivered(pendingMax, lease.lost);
      isBehind = found.length === pendingMax;
      for (const change of found) enqueue(change);
    },
    async ended() {
      await Promise.all(running);
    },
  };
}

function receiverOf(post: string | undefined): string {
  return URL.parse(post ?? "")?.origin ?? "";
}
