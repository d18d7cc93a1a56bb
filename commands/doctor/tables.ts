// The tables: made by the migrations of this version, and with the settings that exactly-once and durability rest on.
import { fileURLToPath } from "node:url";
import { FROZEN_VERSION } from "#lib/identity/closure.ts";
import { readChecksums } from "#lib/warehouse/migrate.ts";
import { quoteIdentifier } from "#lib/warehouse/sql.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type DoctorConfig, migrateFix } from "./config.ts";
import type { Finding, Result } from "./probe.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations", import.meta.url));
const UNKNOWN_TABLE = 60;
const UNKNOWN_DATABASE = 81;

type MigrationsConfig = Pick<DoctorConfig, "clickhouseDatabase" | "kafkaBrokers">;

/** Compares migrations/ with schema_migrations. `warehouse` is of a database that always exists. */
export async function checkMigrations(
  warehouse: Warehouse,
  config: MigrationsConfig,
  signal: AbortSignal,
): Promise<Result<true>> {
  const { clickhouseDatabase: database } = config;
  const fix = migrateFix(config);
  let applied: { filename: string; checksums: string[] }[];
  try {
    applied = await warehouse.query(
      `SELECT filename, groupUniqArray(checksum) AS checksums FROM ${quoteIdentifier(database)}.schema_migrations GROUP BY filename`,
      { signal },
    );
  } catch (error) {
    if (!(error instanceof WarehouseError) || ![UNKNOWN_TABLE, UNKNOWN_DATABASE].includes(error.code ?? 0)) throw error;
    return { status: "fail", what: `database ${database} has no tables of Millrace`, fix };
  }
  const files = await readChecksums(MIGRATIONS);
  const known = new Map(applied.map(({ filename, checksums }) => [filename, checksums]));
  const missing = [...files.keys()].filter((name) => !known.has(name));
  if (missing.length > 0) {
    return { status: "fail", what: `not applied to database ${database}: ${missing.join(", ")}`, fix };
  }
  const foreign = [...known.keys()].filter((name) => !files.has(name));
  if (foreign.length > 0) {
    const what = `applied, but unknown to this version: ${foreign.join(", ")}`;
    return { status: "fail", what, fix: "run the version that made the tables, or a newer one", value: true };
  }
  const changed = [...files].filter(([name, sum]) => known.get(name)?.some((other) => other !== sum));
  if (changed.length > 0) {
    const what = `changed since they were applied: ${changed.map(([name]) => name).join(", ")}`;
    return { status: "fail", what, fix: "restore the files, and put the change into a new migration", value: true };
  }
  return { status: "ok", what: `all ${files.size} applied to database ${database}`, value: true };
}

/** Tables that are written under tokens. */
const TOKEN_TABLES = ["events_raw", "log_outcomes", "dead_letters", "points"];
const WINDOW_WANTED = 10_000;
const FSYNC_SETTINGS = ["fsync_after_insert", "fsync_part_directory"];

interface TableSettings {
  table: string;
  /** Replicated and shared tables keep their tokens by another setting. */
  windowSetting: string;
  settings: ReadonlyMap<string, string>;
}

export async function checkTokens(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const tables = await readTables(warehouse, signal);
  const windows = tables.map((each) => ({ ...each, window: Number(each.settings.get(each.windowSetting) ?? 0) }));
  const worst = windows.sort((a, b) => a.window - b.window)[0];
  if (!worst || worst.window >= WINDOW_WANTED) {
    return { status: "ok", what: `each table remembers at least ${worst?.window} insert tokens` };
  }
  const { table, windowSetting, window } = worst;
  const fix = `ALTER TABLE ${warehouse.database}.${table} MODIFY SETTING ${windowSetting} = ${WINDOW_WANTED}`;
  return window === 0
    ? { status: "fail", what: `${table} remembers no insert tokens (${windowSetting} = 0): a retry doubles rows`, fix }
    : { status: "warn", what: `${table} remembers ${window} insert tokens (${windowSetting}); made were 10000`, fix };
}

export async function checkFsync(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const tables = await readTables(warehouse, signal);
  const lax = tables.flatMap(({ table, settings }) =>
    FSYNC_SETTINGS.filter((name) => settings.get(name) !== "1").map((name) => ({ table, name })),
  );
  const [first] = lax;
  if (!first) return { status: "ok", what: "rows are on disk before an insert is acknowledged" };
  return {
    status: "warn",
    what: `a power cut can take acknowledged rows: off are ${lax.map(({ table, name }) => `${table}.${name}`).join(", ")}`,
    fix: `ALTER TABLE ${warehouse.database}.${first.table} MODIFY SETTING ${first.name} = 1; then \`millrace verify\``,
  };
}

/** Ids whose person stays as it is (docs/identity.md). */
export async function checkPeople(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const [row] = await warehouse.query<{ n: string; example: string }>(
    `SELECT uniqExact(own_person_id) AS n, toString(any(own_person_id)) AS example
     FROM person_overrides WHERE version = {frozen:UInt64}`,
    { params: { frozen: FROZEN_VERSION }, signal },
  );
  const frozen = Number(row?.n ?? 0);
  if (frozen === 0) return { status: "ok", what: "no ids are linked beyond reason" };
  return {
    status: "warn",
    what: `${frozen} ids, ${row?.example} among them, are linked to so many that they keep the person they had: new links do not change it`,
    fix: "find out who links them (identity_edges by own_person_id), and stop that; docs/identity.md, 'How fresh, and how bounded'",
  };
}

/** Settings in force: the table's own, else the server's. Throws for a table that is not there. */
async function readTables(warehouse: Warehouse, signal: AbortSignal): Promise<TableSettings[]> {
  const params = { database: warehouse.database, tables: TOKEN_TABLES };
  const [rows, defaults] = await Promise.all([
    warehouse.query<{ name: string; engine: string; definition: string }>(
      `SELECT name, engine, engine_full AS definition FROM system.tables
       WHERE database = {database:String} AND name IN {tables:Array(String)}`,
      { params, signal },
    ),
    warehouse.query<{ name: string; value: string }>(
      `SELECT name, value FROM system.merge_tree_settings
       WHERE name LIKE '%deduplication_window' OR name LIKE 'fsync%'`,
      { signal },
    ),
  ]);
  const absent = TOKEN_TABLES.filter((table) => rows.every(({ name }) => name !== table));
  if (absent.length > 0) throw new Error(`database ${warehouse.database} has lost tables: ${absent.join(", ")}`);
  return rows.map(({ name: table, engine, definition }) => {
    const own = [...definition.matchAll(/\b(\w+) = '?(\d+)/g)].map(
      ([, name = "", value = ""]) => [name, value] as const,
    );
    const settings = new Map([...defaults.map(({ name, value }) => [name, value] as const), ...own]);
    const isReplicated = /^(Replicated|Shared)/.test(engine);
    return { table, settings, windowSetting: `${isReplicated ? "" : "non_"}replicated_deduplication_window` };
  });
}
