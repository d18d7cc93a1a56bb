// How long rows stay in ClickHouse: a TTL of the tables that the log fills, from a setting. Outside the migrations and
// their checksums, because it may change any day.
import type { BaseLogger } from "pino";
import { duration } from "#lib/runtime/settings.ts";
import type { Warehouse } from "./warehouse.ts";

/** The consumer looks rows of the last hour up, and verify leaves an hour's margin; below a day both would be in the way. */
const RETENTION_MS_MIN = 86_400_000;

export const retentionSettings = {
  eventsRetention: duration(undefined, { min: RETENTION_MS_MIN }).describe(
    "How long events, outcomes and dead letters stay in ClickHouse, from arrival; unset: for ever.",
  ),
};

/** Together, or the audit would miss the rows of one for the offsets of another. */
const TABLES = ["events_raw", "log_outcomes", "dead_letters"] as const;
const STATEMENT_SECONDS_MAX = 600;

const OWN_TTL = / TTL (toDateTime\(log_time\) \+ toIntervalSecond\(\d+\))(?: SETTINGS |$)/;

/**
 * Makes the tables keep rows for so long; undefined: for ever. What is so already is left alone, and so is a TTL of
 * another form that somebody has set by hand, as long as there is no setting. Rejects with WarehouseError.
 */
export async function applyRetention(
  warehouse: Warehouse,
  retentionMs: number | undefined,
  logger: Pick<BaseLogger, "info">,
): Promise<void> {
  const wanted =
    retentionMs === undefined ? undefined : `toDateTime(log_time) + toIntervalSecond(${Math.ceil(retentionMs / 1000)})`;
  for (const table of TABLES) {
    const present = await ownTtlOf(warehouse, table);
    if (present === wanted) continue;
    const alter = (change: string) =>
      warehouse.command(`ALTER TABLE ${table} ${change}`, { maxSeconds: STATEMENT_SECONDS_MAX });
    if (wanted === undefined) {
      await alter("REMOVE TTL");
      logger.info({ table }, "retention removed: rows stay for ever");
      continue;
    }
    // Whole parts are dropped once their last row has expired, and stored parts only learn when that is: neither rows nor
    // columns are written again.
    await alter("MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1");
    await alter(`MODIFY TTL ${wanted}`);
    logger.info({ table, days: (retentionMs ?? 0) / RETENTION_MS_MIN }, "retention set");
  }
}

async function ownTtlOf(warehouse: Warehouse, table: string): Promise<string | undefined> {
  const [row] = await warehouse.query<{ engine: string }>(
    "SELECT engine_full AS engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
    { params: { database: warehouse.database, table } },
  );
  return OWN_TTL.exec(row?.engine ?? "")?.[1];
}
