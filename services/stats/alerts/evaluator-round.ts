// One evaluation of all alerts after another, by the copy that holds the lease: measure, compare, store what has changed,
// hand it to the deliverer.
import type { Logger } from "#lib/process/log.ts";
import { retryForever } from "#lib/process/retry.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Alert } from "./alert.ts";
import type { Deliverer } from "./deliver.ts";
import { GROUPS_MAX, levelOf, type Measurement, measure } from "./evaluate.ts";
import type { AlertMetrics } from "./evaluator-metrics.ts";
import type { Lease } from "./lease.ts";
import {
  canonicalGroup,
  NO_TRANSITION,
  type Subject,
  type SubjectState,
  scopeOf,
  subjectKey,
  type Transition,
  type TransitionLevel,
  type TransitionStore,
  transitionId,
} from "./transitions.ts";
import { webhookBody, webhookId } from "./webhook-payload.ts";

export interface RoundOptions {
  lease: Lease;
  warehouse: Warehouse;
  store: TransitionStore;
  deliverer: Deliverer;
  nowMs: () => number;
  metrics: AlertMetrics;
  logger: Logger;
}

/**
 * Evaluates these alerts once. Rejects with WarehouseError when ClickHouse cannot be asked, and with AssignmentLostError
 * when the lease is lost; the next round does what was left.
 */
export type Round = (alerts: readonly Alert[]) => Promise<void>;

/** Level that a subject should have. */
interface Wanted {
  subject: Subject;
  alert: Alert;
  level: TransitionLevel;
  value: number | undefined;
  windowStartMs: number;
  /** The alert watches something else now: the level of before ends. */
  ends?: SubjectState;
}

/**
 * The table is read again this often: what a holder before this one had under way may have landed after it was first
 * read, and what the queue had no room for is there.
 */
const RELOAD_MS = 300_000;

/** Remembers levels other than ok; whatever else is needed of the past is asked for when a level is to change. */
export function createRounds(options: RoundOptions): Round {
  const { lease, warehouse, store, deliverer, nowMs, metrics, logger } = options;
  const open = new Map<string, SubjectState>();
  const reportedCut = new Set<string>();
  let loadedAt = Number.NEGATIVE_INFINITY;

  async function load(): Promise<void> {
    if (performance.now() - loadedAt > RELOAD_MS) {
      const states = await store.open(lease.lost);
      open.clear();
      for (const state of states) open.set(subjectKey(state), state);
      await deliverer.refill();
      loadedAt = performance.now();
    } else if (deliverer.needsRefill) await deliverer.refill();
  }

  function noteCut({ id }: Alert): void {
    metrics.groupsCut.inc();
    if (reportedCut.has(id)) return;
    reportedCut.add(id);
    logger.warn({ alertId: id }, "alert has more groups than are evaluated");
  }

  function decide(alerts: readonly Alert[], measured: ReadonlyMap<string, Measurement>, atMs: number): Wanted[] {
    const wanted: Wanted[] = [];
    const seen = new Set<string>();
    const opened = countBy([...open.values()].map(({ alertId }) => alertId));
    const scopes = new Map<string, { alert: Alert; scope: string; measurement: Measurement }>();
    for (const alert of alerts) {
      const measurement = measured.get(alert.id);
      if (!measurement) continue;
      const { windowStartMs } = measurement;
      const scope = scopeOf(alert);
      scopes.set(alert.id, { alert, scope, measurement });
      let { isCut } = measurement;
      for (const { group, mean: value } of measurement.values) {
        const subject = { alertId: alert.id, scope, group: canonicalGroup(group) };
        const key = subjectKey(subject);
        seen.add(key);
        const level = levelOf(alert, value);
        if (level === undefined || level === (open.get(key)?.level ?? "ok")) continue;
        // Groups that come, breach and are never heard of again would add up.
        if (!open.has(key) && opened.add(alert.id) > GROUPS_MAX) {
          isCut = true;
          continue;
        }
        wanted.push({ subject, alert, level, value, windowStartMs });
      }
      if (isCut) noteCut(alert);
    }
    for (const [key, state] of open) {
      const now = scopes.get(state.alertId);
      if (!now || seen.has(key)) continue;
      const { alert, scope, measurement } = now;
      const known = { subject: state, alert, value: undefined };
      if (state.scope !== scope) wanted.push({ ...known, level: "ok", windowStartMs: atMs, ends: state });
      // Without points in the window. Of groups that were cut off nothing is known.
      else if (!measurement.isCut) {
        const level = levelOf(alert, undefined);
        if (level === undefined || level === state.level) continue;
        wanted.push({ ...known, level, windowStartMs: measurement.windowStartMs });
      }
    }
    return wanted;
  }

  async function change(wanted: readonly Wanted[], nowAtMs: number): Promise<void> {
    await lease.confirm();
    const states = await store.last(
      wanted.map(({ subject }) => subject),
      lease.lost,
    );
    const last = new Map(states.map((state) => [subjectKey(state), state]));
    const transitions: Transition[] = [];
    let isNews = false;
    for (const each of wanted) {
      const key = subjectKey(each.subject);
      const state = last.get(key);
      // Something the holder before had under way landed after the table was read here.
      if ((state?.level ?? "ok") !== (open.get(key)?.level ?? "ok")) isNews = true;
      note(key, state);
      if ((state?.level ?? "ok") !== each.level) transitions.push(transitionOf(each, state, nowAtMs));
    }
    await keep(transitions);
    for (const transition of transitions) {
      note(subjectKey(transition), transition);
      metrics.transitions.inc({ level: transition.level });
    }
    if (isNews) await deliverer.refill();
    else deliverer.add(transitions);
  }

  function note(key: string, state: SubjectState | undefined): void {
    if (state && state.level !== "ok") open.set(key, state);
    else open.delete(key);
  }

  /** What was decided is stored before anything else is: an insert without an answer may yet land. */
  function keep(transitions: readonly Transition[]): Promise<void> {
    const attempt = async (signal: AbortSignal) => {
      await lease.confirm();
      await store.insert(transitions, signal);
    };
    return retryForever(attempt, {
      ...{ signal: lease.lost, baseMs: 100, capMs: 10_000 },
      isTransient: (error) => error instanceof WarehouseError && error.kind === "transient",
      onRetry: ({ attempt: count, error }) => {
        if (count === 1) logger.warn({ err: error }, "changes of level not stored, trying again");
      },
    });
  }

  return async (alerts) => {
    const atMs = nowMs();
    await lease.confirm();
    await load();
    const measured = await measure(alerts, {
      ...{ warehouse, nowMs: atMs, signal: lease.lost },
      onFailure(refused, err) {
        metrics.refused.inc(refused.length);
        logger.error({ err, alertIds: refused.map(({ id }) => id) }, "alerts not evaluated: their query was refused");
      },
    });
    const wanted = decide(alerts, measured, atMs);
    if (wanted.length > 0) await change(wanted, atMs);
  };
}

function countBy(names: readonly string[]) {
  const counts = new Map<string, number>();
  const add = (name: string): number => {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    return count;
  };
  for (const name of names) add(name);
  return { add };
}

function transitionOf(
  { subject, alert, level, value, windowStartMs, ends }: Wanted,
  last: SubjectState | undefined,
  nowMs: number,
): Transition {
  const { alertId, scope, group } = subject;
  const previousId = last?.transitionId ?? NO_TRANSITION;
  const previousLevel = last?.level ?? "ok";
  // Whatever the clock does, the times of a subject's changes grow.
  const atMs = Math.max(nowMs, (last?.atMs ?? 0) + 1);
  const id = transitionId(subject, previousId, level);
  const metric = ends?.metric ?? alert.metric;
  const tags = ends ? group : { ...alert.tags, ...group };
  const state: SubjectState = {
    ...{ alertId, scope, group, transitionId: id, level, atMs, metric },
    leftOkAtMs: last && previousLevel !== "ok" ? last.leftOkAtMs : atMs,
    webhookId: ends?.webhookId ?? webhookId(metric, tags),
  };
  return {
    ...state,
    ...{ alertVersion: alert.version, previousId, previousLevel, value, windowStartMs, post: alert.post },
    payload: webhookBody({ ...state, id: state.webhookId, tags, previousLevel, value, windowStartMs }),
  };
}
