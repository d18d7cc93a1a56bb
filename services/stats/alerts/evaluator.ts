// Alerts as a part of the stats service: asks for the lease, evaluates while it is held, and sends webhooks.
import { randomUUID } from "node:crypto";
import type { Registry } from "prom-client";
import { AssignmentLostError, type EventLog } from "#lib/eventlog/log.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Alert } from "./alert.ts";
import { type Backoff, createDeliverer } from "./deliver.ts";
import { createAlertMetrics } from "./evaluator-metrics.ts";
import { createRounds } from "./evaluator-round.ts";
import type { AlertConfig } from "./evaluator-settings.ts";
import { holdLease, type Lease } from "./lease.ts";
import { createTransitionStore } from "./transitions.ts";
import { createWebhook } from "./webhook.ts";
import { webhookBody, webhookId } from "./webhook-payload.ts";

export interface AlertsOptions {
  log: EventLog;
  warehouse: Warehouse;
  /** Definitions of all alerts. */
  store: { list(): Promise<readonly Alert[]> };
  config: AlertConfig;
  registry: Registry;
  logger: Logger;
  nowMs?: () => number;
  /** Between two tries to reach a receiver. Default: a second to five minutes. */
  backoff?: Backoff;
  /** Waits for the next evaluation; false: there is none. Default: `alertInterval` after the begin of the last one. */
  pace?: (lastBeganAt: number, signal: AbortSignal) => Promise<boolean>;
}

export interface Alerts extends AsyncDisposable {
  /**
   * Sends the alert's webhook as if it had fired, marked as a test, from any copy; nothing is stored. Rejects with
   * WebhookError when it was refused, not answered, or not answered 2xx.
   */
  testFire(alert: Alert, signal?: AbortSignal): Promise<{ status: number }>;
}

const BACKOFF: Backoff = { baseMs: 1000, capMs: 300_000 };
const PENDING_MAX = 5000;

/** Runs until disposed. Closes neither log nor warehouse, which it was handed. */
export function startAlerts(options: AlertsOptions): Alerts {
  const { log, warehouse, config, registry, logger, nowMs = Date.now, backoff = BACKOFF } = options;
  const pace = options.pace ?? ((lastBeganAt, signal) => sleepUnless(signal, intervalLeft(config, lastBeganAt)));
  const stopping = new AbortController();
  const transitions = createTransitionStore(warehouse);
  const send = createWebhook(config, nowMs);
  let held: { pending(): number; evaluatedAt: number | undefined } | undefined;
  const metrics = createAlertMetrics(registry, {
    isHeld: () => held !== undefined,
    pending: () => held?.pending() ?? 0,
    lastEvaluationAge: () =>
      held?.evaluatedAt === undefined ? undefined : (performance.now() - held.evaluatedAt) / 1000,
  });

  async function onHeld(lease: Lease): Promise<void> {
    let posts = new Map<string, string>();
    const shared = { lease, store: transitions, nowMs, metrics, logger };
    const deliverer = createDeliverer({
      ...shared,
      send,
      backoff,
      pendingMax: PENDING_MAX,
      postOf: (id) => posts.get(id),
    });
    const round = createRounds({ ...shared, warehouse, deliverer });
    const own = { pending: () => deliverer.pending, evaluatedAt: undefined as number | undefined };
    held = own;
    logger.info("alerts are evaluated here");
    let beganAt: number;
    do {
      beganAt = performance.now();
      try {
        const alerts = await options.store.list();
        posts = new Map(alerts.map(({ id, post }) => [id, post]));
        await round(alerts);
        own.evaluatedAt = performance.now();
        metrics.evaluations.inc({ result: "ok" });
        metrics.evaluationSeconds.observe((own.evaluatedAt - beganAt) / 1000);
      } catch (err) {
        if (lease.lost.aborted || err instanceof AssignmentLostError) break;
        metrics.evaluations.inc({ result: "failed" });
        logger.error({ err }, "alerts not evaluated, trying again at the next interval");
      }
    } while (await pace(beganAt, lease.lost));
    await deliverer.ended();
    if (held === own) held = undefined;
    logger.info("alerts are no longer evaluated here");
  }
  const holding = holdLease({ log, onHeld, signal: stopping.signal, logger });

  return {
    testFire: (alert, signal = stopping.signal) => {
      const id = randomUUID();
      return send({ post: alert.post, body: testBody(alert, id, nowMs()), transitionId: id, signal });
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await holding;
    },
  };
}

function intervalLeft({ alertInterval }: AlertConfig, lastBeganAt: number): number {
  return Math.max(0, alertInterval - (performance.now() - lastBeganAt));
}

function testBody(alert: Alert, transitionId: string, nowMs: number): string {
  const { metric, tags, level, threshold: value } = alert;
  return webhookBody({
    ...{ transitionId, alertId: alert.id, id: webhookId(metric, tags), metric, tags, group: {}, level, value },
    ...{ previousLevel: "ok", atMs: nowMs, windowStartMs: nowMs - alert.durationMs, leftOkAtMs: nowMs, isTest: true },
  });
}
