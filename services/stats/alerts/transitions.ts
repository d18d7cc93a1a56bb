// Changes of level, as they are kept in alert_events. The id of a change follows from what it changes, so two copies
// that see the same breach, or one that dies and comes back, write and send the same change.
import { createHash } from "node:crypto";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Alert, AlertLevel } from "./alert.ts";

export type TransitionLevel = "ok" | AlertLevel;

/** What has a level of its own: an alert, as long as it watches the same, and one combination of its groupBy tags. */
export interface Subject {
  alertId: string;
  /** Of scopeOf. */
  scope: string;
  /** As canonicalGroup has it. */
  group: Readonly<Record<string, string>>;
}

/** The last change of a subject. */
export interface SubjectState extends Subject {
  transitionId: string;
  level: TransitionLevel;
  atMs: number;
  /** When the level last left ok, milliseconds; of no meaning before it ever did. */
  leftOkAtMs: number;
  metric: string;
  /** Of webhookId: by which receivers know it. */
  webhookId: string;
}

export interface Transition extends SubjectState {
  alertVersion: number;
  previousId: string;
  previousLevel: TransitionLevel;
  /** Undefined: there were no points. */
  value: number | undefined;
  windowStartMs: number;
  /** Body of the webhook. */
  payload: string;
  /** Webhook of the alert's definition at that time. */
  post: string;
}

/** A change that no receiver is known to have heard of. */
export interface Undelivered extends Subject {
  transitionId: string;
  atMs: number;
  payload: string;
}

export interface DeliveryOutcome {
  kind: "delivered" | "failed";
  transitionId: string;
  alertId: string;
  atMs: number;
  attempts: number;
  /** 0: there was no answer. */
  httpStatus: number;
  error: string;
}

/** Previous id of a subject's first change. */
export const NO_TRANSITION = "00000000-0000-0000-0000-000000000000";

/** Hash of what an alert watches. With another one its levels start over. */
export function scopeOf({ metric, tags, groupBy }: Pick<Alert, "metric" | "tags" | "groupBy">): string {
  return sha256([metric, sortedEntries(tags), [...groupBy].sort()])
    .toString("hex")
    .slice(0, 32);
}

/** Names in order: equal tags are equal lists. */
export function sortedEntries(tags: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(tags).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Equal groups as equal JSON and as equal maps of ClickHouse, where the order of names counts. */
export function canonicalGroup(group: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(sortedEntries(group));
}

/** Equal for equal subjects. */
export function subjectKey({ alertId, scope, group }: Subject): string {
  return JSON.stringify([alertId, scope, sortedEntries(group)]);
}

/**
 * UUID (version 8) of the change of a subject from its previous change to `level`. Neither time nor value is in it: who
 * sees the same breach a moment later makes the same id.
 */
export function transitionId(subject: Subject, previousId: string, level: TransitionLevel): string {
  const { alertId, scope, group } = subject;
  const bytes = sha256(["millrace transition", alertId, scope, sortedEntries(group), previousId, level]);
  bytes[6] = 0x80 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

function sha256(value: unknown): Buffer {
  return createHash("sha256").update(JSON.stringify(value)).digest();
}

/** Methods reject with WarehouseError, or with the reason of a fired signal. */
export interface TransitionStore {
  /** States other than ok, of alerts that there are. */
  open(signal: AbortSignal): Promise<SubjectState[]>;
  /** Last change of each of these subjects that has one. */
  last(subjects: readonly Subject[], signal: AbortSignal): Promise<SubjectState[]>;
  /** Changes that were neither delivered nor given up, each subject's in their order; the oldest `limit` of all. */
  undelivered(limit: number, signal: AbortSignal): Promise<Undelivered[]>;
  /** Adds nothing when the same changes were inserted before. */
  insert(transitions: readonly Transition[], signal: AbortSignal): Promise<void>;
  insertOutcome(outcome: DeliveryOutcome, signal: AbortSignal): Promise<void>;
}

interface StateRow {
  id: string;
  alertId: string;
  scope: string;
  group: Record<string, string>;
  level: TransitionLevel;
  atMs: string;
  leftOkAtMs: string;
  metric: string;
  webhookId: string;
}

type UndeliveredRow = Pick<StateRow, "id" | "alertId" | "scope" | "group" | "atMs"> & { payload: string };

const TRANSITION_COLUMNS = [
  ...["kind", "transition_id", "alert_id", "at", "alert_version", "scope", "group_tags", "previous_transition_id"],
  ...["level", "previous_level", "value", "window_start", "metric", "payload", "post"],
];
const OUTCOME_COLUMNS = ["kind", "transition_id", "alert_id", "at", "attempts", "http_status", "error"];

/** Subjects asked for in one query, and changes in one insert: about 1 kB each. */
const CHUNK = 200;

export function createTransitionStore(warehouse: Warehouse): TransitionStore {
  // The last change of a subject is the one that is no other's previous one. Times of a subject's changes always grow,
  // so they decide where two definitions of an alert were evaluated at once and both have a last change.
  async function states(
    where: string,
    levels: "open" | "all",
    params: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<SubjectState[]> {
    const rows = await warehouse.query<StateRow>(
      `SELECT toString(e.transition_id) AS id, toString(e.alert_id) AS alertId, e.scope AS scope, e.group_tags AS group,
         e.level AS level, toUnixTimestamp64Milli(e.at) AS atMs, toUnixTimestamp64Milli(s.left_at) AS leftOkAtMs, e.metric AS metric,
         JSONExtractString(e.payload, 'id') AS webhookId
       FROM (SELECT *, toString(group_tags) AS g FROM alert_events FINAL WHERE kind = 'transition' AND ${where}) AS e
       LEFT JOIN (
         SELECT alert_id, scope, toString(group_tags) AS g, max(at) AS left_at FROM alert_events
         WHERE kind = 'transition' AND level != 'ok' AND previous_level = 'ok' AND ${where} GROUP BY alert_id, scope, g
       ) AS s ON e.alert_id = s.alert_id AND e.scope = s.scope AND e.g = s.g
       WHERE e.transition_id NOT IN (
         SELECT previous_transition_id FROM alert_events WHERE kind = 'transition' AND ${where})
         ${levels === "open" ? "AND e.level != 'ok'" : ""}
       ORDER BY e.at`,
      { params, signal },
    );
    const last = new Map<string, SubjectState>();
    for (const row of rows) {
      const { alertId, scope, level, metric, webhookId } = row;
      const state = {
        ...{ alertId, scope, group: row.group, transitionId: row.id, level, metric, webhookId },
        ...{ atMs: Number(row.atMs), leftOkAtMs: Number(row.leftOkAtMs) },
      };
      last.set(subjectKey(state), state);
    }
    return [...last.values()];
  }

  async function write(columns: readonly string[], rows: readonly unknown[][], token: string, signal: AbortSignal) {
    const bytes = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    await warehouse.insert({ table: "alert_events", columns, rows: bytes, token, signal });
  }

  return {
    open: (signal) => states("alert_id IN (SELECT alert_id FROM alerts FINAL)", "open", {}, signal),
    async last(subjects, signal) {
      const found: SubjectState[] = [];
      for (const some of chunks(subjects)) {
        const where = `alert_id IN {ids:Array(UUID)} AND has(
          arrayZip({ids:Array(UUID)}, {scopes:Array(String)}, {names:Array(Array(String))}, {values:Array(Array(String))}),
          (alert_id, scope, mapKeys(group_tags), mapValues(group_tags)))`;
        const params = {
          ids: some.map(({ alertId }) => alertId),
          scopes: some.map(({ scope }) => scope),
          names: some.map(({ group }) => Object.keys(group)),
          values: some.map(({ group }) => Object.values(group)),
        };
        found.push(...(await states(where, "all", params, signal)));
      }
      return found;
    },
    async undelivered(limit, signal) {
      const rows = await warehouse.query<UndeliveredRow>(
        `SELECT toString(transition_id) AS id, toString(alert_id) AS alertId, scope, group_tags AS group,
           toUnixTimestamp64Milli(at) AS atMs, payload
         FROM alert_events FINAL
         WHERE kind = 'transition' AND transition_id NOT IN (
           SELECT transition_id FROM alert_events WHERE kind != 'transition')
         ORDER BY at LIMIT {limit:UInt32}`,
        { params: { limit }, signal },
      );
      return rows.map(({ id, alertId, scope, group, atMs, payload }) => ({
        ...{ transitionId: id, alertId, scope, group, atMs: Number(atMs), payload },
      }));
    },
    async insert(transitions, signal) {
      for (const some of chunks(transitions)) {
        const token = sha256(some.map((each) => each.transitionId)).toString("hex");
        await write(TRANSITION_COLUMNS, some.map(transitionRow), token, signal);
      }
    },
    insertOutcome(outcome, signal) {
      const { kind, transitionId: id, alertId, atMs, attempts, httpStatus, error } = outcome;
      const row = [kind, id, alertId, new Date(atMs).toISOString(), attempts, httpStatus, error];
      return write(OUTCOME_COLUMNS, [row], `${kind}:${id}`, signal);
    },
  };
}

function transitionRow(each: Transition): unknown[] {
  return [
    ...[
      "transition",
      each.transitionId,
      each.alertId,
      new Date(each.atMs).toISOString(),
      each.alertVersion,
      each.scope,
    ],
    ...[each.group, each.previousId, each.level, each.previousLevel, each.value ?? null],
    ...[new Date(each.windowStartMs).toISOString(), each.metric, each.payload, each.post],
  ];
}

function* chunks<T>(items: readonly T[]): Generator<T[]> {
  for (let at = 0; at < items.length; at += CHUNK) yield items.slice(at, at + CHUNK);
}
