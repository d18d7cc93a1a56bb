// Properties as typed columns of events_raw. The table promoted_properties says which there shall be, applyPromoted makes
// it so: killed half-way, run twice or by two people at once, the next run completes it. It is no migration, because
// which properties are promoted belongs to a database and not to a version of this program.
// In a cluster the column is one of the shards' tables and of the Distributed table over them.
import { clusterDialect } from "./cluster/ddl.ts";
import { SINGLE_SERVER } from "./ddl.ts";
import { PROMOTED_PREFIX, promotedColumnsIn, withPromotedColumns } from "./promoted-view.ts";
import { quoteIdentifier, quoteText } from "./sql.ts";
import { shardsOf, type Warehouse } from "./warehouse.ts";

export const PROPERTY_TYPES = ["String", "Int64", "Float64", "Bool", "DateTime"] as const;
export type PropertyType = (typeof PROPERTY_TYPES)[number];

export interface PromotedProperty {
  key: string;
  column: string;
  type: PropertyType;
}

/** What is stored stands in the way; the message says what to do. */
export class PromotionError extends Error {
  override readonly name = "PromotionError";
}

const COLUMN_CHARS_MAX = 60;
/** Each column reads the properties of every event once more as it is stored. */
const PROMOTED_MAX = 100;
/** A column is added to the metadata alone; the time is for statements that hold the table's lock. */
const STATEMENT_SECONDS_MAX = 600;

/** `$browser` and `browser` are p_browser: without a leading dollar sign, all but letters, digits and _ replaced by _. */
export function columnNameOf(key: string): string {
  const name = key.replace(/^\$/, "").replaceAll(/[^\p{L}\p{N}\p{M}_]+/gu, "_");
  return PROMOTED_PREFIX + [...name].slice(0, COLUMN_CHARS_MAX).join("");
}

/** The column's type in ClickHouse: NULL stands for a property that is absent, null or of another type. */
function columnTypeOf(type: PropertyType): string {
  return type === "DateTime" ? "Nullable(DateTime64(6, 'UTC'))" : `Nullable(${type})`;
}

/** Never throws in ClickHouse, whatever the properties are: an exception would refuse the events themselves. */
function expressionOf({ key, type }: PromotedProperty): string {
  const literal = quoteText(key);
  const raw = `JSONExtractRaw(properties, ${literal})`;
  switch (type) {
    case "String":
      return `JSONExtract(properties, ${literal}, 'Nullable(String)')`;
    case "Int64":
    case "Float64":
      return `to${type}OrNull(${raw})`;
    case "Bool":
      return `if(${raw} IN ('true', 'false'), ${raw} = 'true', NULL)`;
    case "DateTime":
      return dateTimeOf(`JSONExtractString(properties, ${literal})`);
  }
}

/** SQL: the time in a text, NULL for a text that does not begin with a date (ClickHouse would take "12" for a day). */
export function dateTimeOf(text: string): string {
  return `if(match(${text}, '^[0-9]{4}-[0-9]{2}-[0-9]{2}'), parseDateTime64BestEffortOrNull(${text}, 6, 'UTC'), NULL)`;
}

/** Properties that are promoted, by key. None where nothing was ever promoted. Rejects with WarehouseError. */
export async function readPromoted(warehouse: Warehouse): Promise<PromotedProperty[]> {
  const all = await readRecords(warehouse);
  return all.filter(({ promoted }) => promoted).map(({ key, column, type }) => ({ key, column, type }));
}

/**
 * Gives the property a column of events_raw and of the view `events`. Rows that are stored already show it at once, read
 * from their properties until fillColumn has run. Rejects with PromotionError or WarehouseError.
 */
export async function promote(warehouse: Warehouse, property: PromotedProperty): Promise<void> {
  await createTable(warehouse);
  // First what others left half done, so that what is found next is meant to be there.
  await applyPromoted(warehouse);
  const promoted = await readPromoted(warehouse);
  const same = promoted.find(({ key }) => key === property.key);
  if (same && same.type !== property.type) {
    throw new PromotionError(`it is promoted as ${same.type} (${same.column}): demote it first`);
  }
  await refuseClash(warehouse, property, promoted);
  if (!same && promoted.length >= PROMOTED_MAX) {
    throw new PromotionError(`${PROMOTED_MAX} properties are promoted, which is the most: demote one first`);
  }
  if (!same) await record(warehouse, property, true);
  // Two that take one name at the same time both see it here, and both step back.
  const rival = (await readPromoted(warehouse)).find(
    ({ key, column }) => column === property.column && key !== property.key,
  );
  if (rival) {
    await record(warehouse, property, false);
    throw clashError(property.column, rival.key);
  }
  await applyPromoted(warehouse);
}

/** Takes the column away; resolves with false when the property has none. Rejects with WarehouseError. */
export async function demote(warehouse: Warehouse, key: string): Promise<boolean> {
  const property = (await readPromoted(warehouse)).find((each) => each.key === key);
  if (property) await record(warehouse, property, false);
  await applyPromoted(warehouse);
  return property !== undefined;
}

/**
 * Makes columns and view what promoted_properties says they shall be; does nothing where they are. To be run after
 * migrations, which may have made the view anew. Rejects with PromotionError or WarehouseError.
 */
export async function applyPromoted(warehouse: Warehouse): Promise<void> {
  for (;;) {
    const records = await readRecords(warehouse);
    if (records.length === 0) return;
    const wanted = records.filter(({ promoted }) => promoted);
    const columns = new Set(wanted.map(({ column }) => column));
    const present = await promotedColumns(warehouse);
    for (const property of wanted.filter(({ column }) => !present.has(column))) {
      await define(
        warehouse,
        `ALTER TABLE ${warehouse.database}.events_raw ADD COLUMN IF NOT EXISTS ${quoteIdentifier(property.column)} ${columnTypeOf(property.type)} MATERIALIZED ${expressionOf(property)}`,
      );
    }
    await showInView(warehouse, [...columns]);
    for (const { column } of records.filter(({ column: name }) => present.has(name) && !columns.has(name))) {
      await define(
        warehouse,
        `ALTER TABLE ${warehouse.database}.events_raw DROP COLUMN IF EXISTS ${quoteIdentifier(column)}`,
      );
    }
    // Somebody else may have changed the list meanwhile, and the view that was made last may be that of the older one.
    if (JSON.stringify(await readRecords(warehouse)) === JSON.stringify(records)) return;
  }
}

export interface FillState {
  /** Parts of events_raw that have the column on disk, of all that there are. */
  filled: number;
  parts: number;
  /** Why ClickHouse did not fill the rest at its last attempt; "" when nothing is wrong. It tries again by itself. */
  failure: string;
}

/**
 * How far the column is on disk; of a cluster, on the replica of each shard that is asked. Where it is not, it is read from
 * the properties. Rejects with WarehouseError.
 */
export async function fillStateOf(warehouse: Warehouse, column: string): Promise<FillState> {
  const state: FillState = { filled: 0, parts: 0, failure: "" };
  for (const shard of shardsOf(warehouse)) {
    const [row] = await shard.query<{ parts: string; filled: string; failure: string }>(
      `SELECT
         (SELECT toString(count()) FROM system.parts WHERE ${ACTIVE}) AS parts,
         (SELECT toString(count()) FROM system.parts_columns WHERE ${ACTIVE} AND column = {column:String}) AS filled,
         (SELECT any(latest_fail_reason) FROM system.mutations
          WHERE ${FILLING}) AS failure`,
      { params: { database: shard.database, column } },
    );
    const parts = Number(row?.parts ?? 0);
    state.parts += parts;
    state.filled += Math.min(parts, Number(row?.filled ?? 0));
    state.failure ||= row?.failure ?? "";
  }
  return state;
}

/** A command reads like (MATERIALIZE COLUMN p_plan), in backquotes where the name needs them. */
const FILLING = `database = {database:String} AND table = 'events_raw' AND NOT is_done
  AND has(splitByRegexp('[()\`, ]+', command), 'MATERIALIZE') AND has(splitByRegexp('[()\`, ]+', command), {column:String})`;

const ACTIVE = "database = {database:String} AND table = 'events_raw' AND active AND rows > 0";

/** Has ClickHouse write the column for the rows that are stored, in the background. Rejects with WarehouseError. */
export async function fillColumn(warehouse: Warehouse, column: string): Promise<void> {
  for (const shard of shardsOf(warehouse)) {
    const [running] = await shard.query<{ n: string }>(
      `SELECT toString(count()) AS n FROM system.mutations WHERE ${FILLING}`,
      { params: { database: shard.database, column } },
    );
    if (Number(running?.n ?? 0) > 0) continue;
    // Not ON CLUSTER: a shard's replicas hear of it from each other, and a Distributed table has nothing to fill.
    const statement = `ALTER TABLE events_raw MATERIALIZE COLUMN ${quoteIdentifier(column)}`;
    await shard.command(statement, { maxSeconds: STATEMENT_SECONDS_MAX });
  }
}

async function refuseClash(warehouse: Warehouse, { key, column }: PromotedProperty, promoted: PromotedProperty[]) {
  const holder = promoted.find((each) => each.column === column);
  if (holder && holder.key !== key) throw clashError(column, holder.key);
  if (holder) return;
  for (const place of new Set([warehouse, ...shardsOf(warehouse)])) {
    if (!(await promotedColumns(place)).has(column)) continue;
    throw new PromotionError(
      `events_raw has a column ${column} that was not made by this command: drop or rename it first`,
    );
  }
}

function clashError(column: string, key: string): PromotionError {
  return new PromotionError(
    `its column would be ${column}, which is that of ${JSON.stringify(key)}: demote that one first`,
  );
}

/** Makes what the statement defines; it names its table with the database. In a cluster, on every node. */
async function define(warehouse: Warehouse, statement: string): Promise<void> {
  const { cluster, database } = warehouse;
  const dialect = cluster ? clusterDialect(cluster.name) : SINGLE_SERVER;
  for (const { sql } of dialect.render(statement, database)) {
    await warehouse.command(sql, { maxSeconds: STATEMENT_SECONDS_MAX });
  }
}

/** Columns of events_raw that begin with the prefix, by whatever they were made. */
async function promotedColumns(warehouse: Warehouse): Promise<Set<string>> {
  const rows = await warehouse.query<{ name: string }>(
    "SELECT name FROM system.columns WHERE database = {database:String} AND table = 'events_raw' AND startsWith(name, {prefix:String})",
    { params: { database: warehouse.database, prefix: PROMOTED_PREFIX } },
  );
  return new Set(rows.map(({ name }) => name));
}

async function showInView(warehouse: Warehouse, columns: readonly string[]): Promise<void> {
  const [view] = await warehouse.query<{ select: string }>(
    "SELECT as_select AS select FROM system.tables WHERE database = {database:String} AND name = 'events'",
    { params: { database: warehouse.database } },
  );
  const select = view && withPromotedColumns(view.select, columns);
  if (view === undefined || select === undefined) {
    throw new PromotionError("the view events is not that of the migrations: run millrace migrate, or restore it");
  }
  if (JSON.stringify(promotedColumnsIn(view.select)) === JSON.stringify(columns)) return;
  await define(warehouse, `CREATE OR REPLACE VIEW ${warehouse.database}.events AS ${select}`);
}

type PromotionRecord = PromotedProperty & { promoted: boolean };

async function createTable(warehouse: Warehouse): Promise<void> {
  await define(
    warehouse,
    `CREATE TABLE IF NOT EXISTS ${warehouse.database}.promoted_properties
    (key String, column_name String, type String, is_promoted Bool, changed_at DateTime64(6, 'UTC') DEFAULT now64(6))
    ENGINE = ReplacingMergeTree(changed_at) ORDER BY key`,
  );
}

async function record(warehouse: Warehouse, { key, column, type }: PromotedProperty, promoted: boolean): Promise<void> {
  await warehouse.command(
    `INSERT INTO promoted_properties (key, column_name, type, is_promoted)
     SELECT {key:String}, {column:String}, {type:String}, {promoted:Bool}`,
    { params: { key, column, type, promoted } },
  );
}

/** Everything that was ever promoted, by key. */
async function readRecords(warehouse: Warehouse): Promise<PromotionRecord[]> {
  const [table] = await warehouse.query(
    "SELECT 1 FROM system.tables WHERE database = {database:String} AND name = 'promoted_properties'",
    { params: { database: warehouse.database } },
  );
  if (table === undefined) return [];
  return warehouse.query<PromotionRecord>(
    `SELECT key, column_name AS column, type, is_promoted AS promoted FROM promoted_properties FINAL ORDER BY key`,
  );
}
