// What became of alerts, as it is listed to callers (alert_events in migrations/0006_alerts.sql).
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface HistoryEntry {
  /** Transition id. */
  id: string;
  alertId: string;
  alertVersion: number;
  metric: string;
  group: Record<string, string>;
  level: string;
  previousLevel: string;
  /** Undefined: there were no points. */
  value: number | undefined;
  /** End of the window, milliseconds since 1970. */
  atMs: number;
  /** Milliseconds since 1970. */
  windowStartMs: number;
  /** Undefined for the first of the alert and group. */
  previousId: string | undefined;
  delivery: HistoryDelivery;
}

export interface HistoryDelivery {
  state: "pending" | "delivered" | "failed";
  attempts: number;
  httpStatus: number;
  error: string;
  /** Milliseconds since 1970; undefined while it is pending. */
  atMs: number | undefined;
}

export interface HistoryPage {
  /** Undefined: of all alerts. */
  alertId: string | undefined;
  count: number;
  /** Only what is older than this entry, in the order of the list. */
  before: Pick<HistoryEntry, "atMs" | "id"> | undefined;
}

interface Row {
  id: string;
  alertId: string;
  alertVersion: string;
  metric: string;
  group: Record<string, string>;
  level: string;
  previousLevel: string;
  value: number | null;
  atMs: string;
  windowStartMs: string;
  previousId: string;
  outcome: "" | "delivered" | "failed";
  attempts: number;
  httpStatus: number;
  error: string;
  outcomeMs: string;
}

const NIL_UUID = "00000000-0000-0000-0000-000000000000";

export type ReadHistory = (page: HistoryPage) => Promise<HistoryEntry[]>;

/** Reads changes of level, the newest first. Rejects with WarehouseError. */
export function createHistory(warehouse: Pick<Warehouse, "query">): ReadHistory {
  return async ({ alertId, count, before }) => {
    const ofAlert = alertId === undefined ? "1" : "alert_id = {alertId:UUID}";
    const older = before ? "(toUnixTimestamp64Milli(at), transition_id) < ({atMs:Int64}, {id:UUID})" : "1";
    // An outcome is looked up for the transitions of the page only.
    const rows = await warehouse.query<Row>(
      `WITH page AS (
         SELECT * FROM alert_events FINAL WHERE kind = 'transition' AND ${ofAlert} AND ${older}
         ORDER BY at DESC, transition_id DESC LIMIT {count:UInt32})
       SELECT toString(p.transition_id) AS id, toString(p.alert_id) AS alertId, p.alert_version AS alertVersion,
              p.metric AS metric, p.group_tags AS group, p.level AS level, p.previous_level AS previousLevel,
              p.value AS value, toUnixTimestamp64Milli(p.at) AS atMs,
              toUnixTimestamp64Milli(p.window_start) AS windowStartMs,
              toString(p.previous_transition_id) AS previousId, o.outcome AS outcome, o.attempts AS attempts,
              o.http_status AS httpStatus, o.error AS error, toUnixTimestamp64Milli(o.at) AS outcomeMs
       FROM page AS p
       LEFT ANY JOIN (
         SELECT transition_id, toString(kind) AS outcome, attempts, http_status, error, at FROM alert_events FINAL
         WHERE kind != 'transition' AND transition_id IN (SELECT transition_id FROM page)
         ORDER BY kind = 'delivered' DESC) AS o ON p.transition_id = o.transition_id
       ORDER BY p.at DESC, p.transition_id DESC`,
      { params: { count, alertId, ...before } },
    );
    return rows.map(entryOf);
  };
}

function entryOf(row: Row): HistoryEntry {
  const { id, alertId, metric, group, level, previousLevel, attempts, httpStatus, error } = row;
  const state = row.outcome === "" ? "pending" : row.outcome;
  return {
    ...{ id, alertId, metric, group, level, previousLevel },
    alertVersion: Number(row.alertVersion),
    value: row.value ?? undefined,
    atMs: Number(row.atMs),
    windowStartMs: Number(row.windowStartMs),
    previousId: row.previousId === NIL_UUID ? undefined : row.previousId,
    delivery: { state, attempts, httpStatus, error, atMs: state === "pending" ? undefined : Number(row.outcomeMs) },
  };
}
