// How long rows stay in ClickHouse: TTLs of the tables that the log fills, from settings. Outside the migrations and
// their checksums, because they may change any day.

import { z } from "zod";
import { type DurationBounds, duration, type Setting, settingInfo } from "#lib/config/settings.ts";
import type { BaseLogger } from "#lib/process/log.ts";
import { quoteText } from "./sql.ts";
import { shardsOf, type Warehouse } from "./warehouse.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** The consumer looks rows of the last hour up, and verify leaves an hour's margin; below a day both would be in the way. */
const EVENTS_RETENTION_MS_MIN = DAY_MS;
/** The same two hours, for rows of which nobody wants more than hours. */
const POINTS_RETENTION_MS_MIN = 3 * HOUR_MS;

export const retentionSettings = {
  eventsRetention: duration(undefined, { min: EVENTS_RETENTION_MS_MIN }).describe(
    "How long events, outcomes and dead letters stay in ClickHouse, from arrival; unset: forever.",
  ),
  pointsRetention: durationOrOff("8h", { min: POINTS_RETENTION_MS_MIN }).describe(
    "How long points of hosts stay in ClickHouse one by one, from when they were stored; off: forever.",
  ),
  retention: durationOrOff("1w", { min: DAY_MS, bareUnit: "w" }).describe(
    "How long five-minute aggregates of points stay, from arrival; a bare number is weeks; off: forever.",
  ),
};

type RetentionConfig = z.output<z.ZodObject<typeof retentionSettings>>;

/** A duration that has a default, and the word that takes it away. */
function durationOrOff(defaultText: string, bounds: DurationBounds): Setting<number | undefined> {
  const some = duration(defaultText, bounds);
  const info = settingInfo.get(some);
  const expected = `${info?.expected ?? ""}, or off`;
  const schema = z.unknown().transform((raw, context): number | undefined => {
    // YAML reads off as false.
    if (raw === false || String(raw).trim().toLowerCase() === "off") return undefined;
    const read = some.safeParse(raw);
    if (read.success) return read.data;
    for (const { message } of read.error.issues) {
      context.addIssue({ code: "custom", message: message.replace(info?.expected ?? "", expected) });
    }
    return z.NEVER;
  });
  return schema.register(settingInfo, { ...info, expected });
}

interface Kept {
  tables: readonly string[];
  /** What the time is counted from. */
  since: string;
  keptMs: number | undefined;
  /** What makes a change one of every replica: TTLs are replicated, settings are not. */
  onCluster: string;
}

const STATEMENT_SECONDS_MAX = 600;

const OWN_TTL = / TTL ((?:toDateTime\(log_time\)|stored_at|slot) \+ toIntervalSecond\(\d+\))(?: SETTINGS |$)/;

/**
 * Makes the tables keep rows for as long as the settings say, milliseconds; undefined: for ever. What is so already is
 * left alone, and so is a TTL of another form that somebody has set by hand, as long as there is no setting. Rejects with
 * WarehouseError.
 */
export async function applyRetentions(
  warehouse: Warehouse,
  { eventsRetention, pointsRetention, retention }: RetentionConfig,
  logger: Pick<BaseLogger, "info">,
): Promise<void> {
  const onCluster = warehouse.cluster ? ` ON CLUSTER ${quoteText(warehouse.cluster.name)}` : "";
  // Together, or the audit would miss the rows of one for the offsets of another.
  const tables = ["events_raw", "log_outcomes", "dead_letters"];
  for (const shard of shardsOf(warehouse)) {
    await keep(shard, { tables, since: "toDateTime(log_time)", keptMs: eventsRetention, onCluster }, logger);
    // Not from arrival: what comes after a long absence must still reach the roll-up.
    await keep(shard, { tables: ["points"], since: "stored_at", keptMs: pointsRetention, onCluster }, logger);
    await keep(shard, { tables: ["points_5m"], since: "slot", keptMs: retention, onCluster }, logger);
  }
}

async function keep(
  warehouse: Warehouse,
  { tables, since, keptMs, onCluster }: Kept,
  logger: Pick<BaseLogger, "info">,
): Promise<void> {
  const wanted = keptMs === undefined ? undefined : `${since} + toIntervalSecond(${Math.ceil(keptMs / 1000)})`;
  for (const table of tables) {
    const present = await ownTtlOf(warehouse, table);
    if (present === wanted) continue;
    const alter = (change: string) =>
      warehouse.command(`ALTER TABLE ${table}${onCluster} ${change}`, { maxSeconds: STATEMENT_SECONDS_MAX });
    if (keptMs === undefined) {
      await alter("REMOVE TTL");
      logger.info({ table }, "retention removed: rows stay forever");
      continue;
    }
    // Whole parts are dropped once their last row has expired, and stored parts only learn when that is: neither rows nor
    // columns are written again.
    await alter("MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1");
    await alter(`MODIFY TTL ${wanted}`);
    logger.info({ table, days: keptMs / DAY_MS }, "retention set");
  }
}

async function ownTtlOf(warehouse: Warehouse, table: string): Promise<string | undefined> {
  const [row] = await warehouse.query<{ engine: string }>(
    "SELECT engine_full AS engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
    { params: { database: warehouse.database, table } },
  );
  return OWN_TTL.exec(row?.engine ?? "")?.[1];
}

/**
 * What arrived at or after this time, milliseconds, is in all of the tables if it was ever stored in them: no TTL, set
 * here or by hand, has taken it or is about to within the hour. Undefined: nothing expires. By ClickHouse's clock.
 */
export async function keptSince(warehouse: Warehouse, tables: readonly string[]): Promise<number | undefined> {
  // A month is taken for its shortest.
  const [row] = await warehouse.query<{ n: string; seconds: string; now: string }>(
    `SELECT count() AS n, min(ttl) AS seconds, toUnixTimestamp(now()) AS now FROM (
       SELECT extract(engine_full, 'TTL .*?toInterval([A-Z][a-z]+)\\\\([0-9]+\\\\)') AS unit,
         toUInt64OrZero(extract(engine_full, 'TTL .*?toInterval[A-Z][a-z]+\\\\(([0-9]+)\\\\)')) *
           transform(unit, ['Minute', 'Hour', 'Day', 'Week', 'Month', 'Year'], [60, 3600, 86400, 604800, 2419200, 31536000], 1) AS ttl
       FROM system.tables WHERE database = {database:String} AND name IN {tables:Array(String)} AND unit != '')`,
    { params: { database: warehouse.database, tables } },
  );
  return row === undefined || Number(row.n) === 0
    ? undefined
    : (Number(row.now) - Number(row.seconds)) * 1000 + HOUR_MS;
}
