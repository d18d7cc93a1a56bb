// The definitions in ClickHouse (migrations/0006_alerts.sql), shared by all copies of the service.
//
// Two copies may change one alert at once. Both write the version after the one they read, under a token made of id and
// version: ClickHouse takes the first and swallows the second, whose writer finds by reading back that the version is not
// its own. A deletion writes the highest version there is, so that an update that was under way cannot bring it back.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { parseUuid } from "#lib/events/ids.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { ALERT_OPERATORS, type Alert, type AlertDefinition, type AlertLevel, type NoDataRule } from "./alert.ts";

export interface StoredAlert extends Alert {
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  /** Milliseconds since 1970. */
  readonly updatedAtMs: number;
}

/**
 * not_found: there is no alert of this id, or none any more.
 * conflict: somebody else changed it at the same time; what was to be written is not in force.
 * full: there are as many alerts as there may be.
 */
export type AlertStoreErrorKind = "not_found" | "conflict" | "full";

/** The message is fit for the caller's eyes. */
export class AlertStoreError extends Error {
  override readonly name = "AlertStoreError";
  readonly kind: AlertStoreErrorKind;

  constructor(kind: AlertStoreErrorKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Methods reject with WarehouseError while ClickHouse is away, and with AlertStoreError as each says. */
export interface AlertStore {
  /** All, the oldest first. */
  list(): Promise<StoredAlert[]>;
  /** Undefined when there is none, also when the id is no UUID. */
  get(id: string): Promise<StoredAlert | undefined>;
  /** Under a new id. Rejects when full. */
  create(definition: AlertDefinition): Promise<StoredAlert>;
  /** Replaces the definition. `version`: the one it must have now. Rejects with not_found or conflict. */
  update(id: string, definition: AlertDefinition, version?: number): Promise<StoredAlert>;
  /** For good. An id that there is not is as good as deleted. */
  delete(id: string): Promise<void>;
}

export interface AlertStoreOptions {
  warehouse: Pick<Warehouse, "query" | "insert">;
  nowMs: () => number;
}

/**
 * All of them are evaluated every 30 seconds, in one process, and listed in one answer. Copies that create at the same
 * moment may go over it by a few.
 */
export const ALERTS_MAX = 1_000;

const DELETED_VERSION = "18446744073709551615";
/** ClickHouse writes the token before it shows the rows: so long may they take, and no longer do they if it was killed. */
const SHOW_MS_MAX = 2_000;
const SHOW_PAUSE_MS = 50;
const VERSIONS_TRIED = 3;

const COLUMNS = [
  ...["alert_id", "version", "is_deleted", "write_id", "metric", "tags", "level", "operator", "threshold"],
  ...["threshold_text", "duration_ms", "duration", "post", "group_by", "no_data", "created_at", "updated_at"],
];

interface Row {
  id: string;
  version: string;
  writeId: string;
  metric: string;
  tags: Record<string, string>;
  level: AlertLevel;
  operator: string;
  threshold: number;
  thresholdText: string | null;
  durationMs: string;
  durationText: string;
  post: string;
  groupBy: string[];
  noData: NoDataRule;
  createdMs: string;
  updatedMs: string;
}

type Version = { alert: StoredAlert; writeId: string };

export function createAlertStore({ warehouse, nowMs }: AlertStoreOptions): AlertStore {
  const { read, write } = createRows(warehouse);

  async function readOne(id: string): Promise<Version | undefined> {
    if (!parseUuid(id)) return undefined;
    return (await read("alert_id = {id:UUID}", { id })).at(0);
  }

  /** What is in force once `version` shows; an older version when that does not show in time. */
  async function readFrom(id: string, version: number): Promise<Version | undefined> {
    const deadline = performance.now() + SHOW_MS_MAX;
    for (;;) {
      const found = await readOne(id);
      if (!found || found.alert.version >= version || performance.now() >= deadline) return found;
      await pause(SHOW_PAUSE_MS);
    }
  }

  return {
    list: async () => (await read("1", {})).map(({ alert }) => alert),
    get: async (id) => (await readOne(id))?.alert,
    async create(definition) {
      const [found] = await warehouse.query<{ n: string }>("SELECT count() AS n FROM alerts FINAL");
      if (Number(found?.n) >= ALERTS_MAX) {
        throw new AlertStoreError("full", `there are ${ALERTS_MAX} alerts, which is the most; delete one first`);
      }
      const now = nowMs();
      const alert = { ...definition, id: randomUUID(), version: 1, createdAtMs: now, updatedAtMs: now };
      await write(alert, randomUUID());
      return alert;
    },
    async update(id, definition, version) {
      const current = (await readOne(id))?.alert;
      if (!current) throw notFound(id);
      if (version !== undefined && version !== current.version) throw conflict(id);
      // A version whose token was written and whose row never showed is nobody's: the next one is tried.
      for (let tried = 1; tried <= VERSIONS_TRIED; tried++) {
        const { createdAtMs } = current;
        const own = {
          ...definition,
          id: current.id,
          version: current.version + tried,
          createdAtMs,
          updatedAtMs: nowMs(),
        };
        const writeId = randomUUID();
        await write(own, writeId);
        const found = await readFrom(id, own.version);
        if (!found) throw notFound(id);
        if (found.writeId === writeId) return found.alert;
        if (found.alert.version >= own.version) throw conflict(id);
      }
      throw conflict(id);
    },
    async delete(id) {
      const current = (await readOne(id))?.alert;
      if (current) await write({ ...current, updatedAtMs: nowMs() }, randomUUID(), true);
    },
  };
}

function createRows(warehouse: AlertStoreOptions["warehouse"]) {
  async function read(where: string, params: Record<string, unknown>): Promise<Version[]> {
    const rows = await warehouse.query<Row>(
      `SELECT toString(alert_id) AS id, a.version AS version, toString(write_id) AS writeId, metric, tags, level, operator,
              threshold, threshold_text AS thresholdText, duration_ms AS durationMs, duration AS durationText, post,
              group_by AS groupBy, no_data AS noData, toUnixTimestamp64Milli(created_at) AS createdMs,
              toUnixTimestamp64Milli(updated_at) AS updatedMs
       FROM alerts AS a FINAL WHERE ${where} ORDER BY created_at, alert_id`,
      { params },
    );
    return rows.map((row) => ({ alert: alertOf(row), writeId: row.writeId }));
  }

  async function write(alert: StoredAlert, writeId: string, deletion = false): Promise<void> {
    const { id, version, metric, tags, level, operatorText, threshold, thresholdText, durationMs } = alert;
    const { durationText, post, groupBy, noData, createdAtMs, updatedAtMs } = alert;
    const row = [
      ...[id, deletion ? DELETED_VERSION : version, deletion ? 1 : 0, writeId, metric, tags, level, operatorText],
      ...[threshold, thresholdText ?? null, durationMs, durationText, post, groupBy, noData],
      ...[createdAtMs, updatedAtMs].map((ms) => new Date(ms).toISOString()),
    ];
    await warehouse.insert({
      table: "alerts",
      columns: COLUMNS,
      rows: Buffer.from(`${JSON.stringify(row)}\n`),
      token: `${id}:${deletion ? "deleted" : version}`,
    });
  }

  return { read, write };
}

function notFound(id: string): AlertStoreError {
  return new AlertStoreError("not_found", `there is no alert ${id}`);
}

function conflict(id: string): AlertStoreError {
  return new AlertStoreError(
    "conflict",
    `alert ${id} was changed by someone else at the same time; read it and try again`,
  );
}

function alertOf(row: Row): StoredAlert {
  const { id, metric, tags, level, threshold, durationText, post, groupBy, noData } = row;
  return {
    ...{ id, metric, tags, level, threshold, durationText, post, groupBy, noData },
    version: Number(row.version),
    operator: ALERT_OPERATORS.find((word) => word === row.operator) ?? "gt",
    operatorText: row.operator,
    thresholdText: row.thresholdText ?? undefined,
    durationMs: Number(row.durationMs),
    createdAtMs: Number(row.createdMs),
    updatedAtMs: Number(row.updatedMs),
  };
}
