// A migration's statements as a server of a certain kind needs them. The files are written for one server; for a cluster
// and for ClickHouse Cloud engine, names and deduplication window are put in as they are sent, so that a file and its
// checksum are the same everywhere.
import { isViewOfAShard, placementOf, shardDatabase } from "./cluster/placement.ts";
import { quoteText, type SqlToken, scanSql } from "./sql.ts";

/**
 * single: one server. cluster: its name in ClickHouse's configuration, whose nodes define the macros {shard} and {replica}.
 * cloud: the server makes SharedMergeTree of MergeTree by itself.
 */
export type DdlMode = { kind: "single" } | { kind: "cloud" } | { kind: "cluster"; cluster: string };

export interface RenderedStatement {
  sql: string;
  /** once: on any node. each shard: on one node of every shard. */
  run: "once" | "each shard";
}

/** A statement of a migration cannot be made into one for a cluster; the message says what is missing. */
export class DdlError extends Error {
  override readonly name = "DdlError";
}

/** Tokens of inserts are remembered this long, seconds: more than an outage of a weekend. */
const WINDOW_SECONDS = 604_800;

interface Edit {
  start: number;
  end: number;
  text: string;
}

/** `statement` is one of a migration, {{DATABASE}} replaced by `database`. Throws DdlError. */
export function renderStatement(statement: string, database: string, mode: DdlMode): RenderedStatement[] {
  if (mode.kind === "single") return [{ sql: statement, run: "once" }];
  const tokens = [...scanSql(statement)];
  const verb = wordAt(tokens, 0);
  const isTable = verb === "CREATE" && wordAt(tokens, 1) === "TABLE";
  if (mode.kind === "cloud") {
    return [{ sql: isTable ? edited(statement, windowEdits(statement, tokens)) : statement, run: "once" }];
  }
  const target = references(tokens, database)[0];
  if (!target) throw new DdlError(`no table of {{DATABASE}} in: ${statement.slice(0, 100)}`);
  const parts: Parts = { statement, tokens, database, onCluster: ` ON CLUSTER ${quoteText(mode.cluster)}`, target };
  if (isTable) return createTable(parts, mode.cluster);
  if (verb === "CREATE" && tokens.slice(1, 4).some((_, at) => wordAt(tokens, at + 1) === "VIEW")) {
    return createView(parts);
  }
  if (verb === "ALTER") return alterTable(parts);
  if (verb === "INSERT") return insertInto(parts);
  throw new DdlError(`a cluster has no form of: ${statement.slice(0, 100)}`);
}

/** The database that holds each shard's own tables, and the one that is read. */
export function renderDatabases(database: string, mode: DdlMode): string[] {
  if (mode.kind !== "cluster") return [`CREATE DATABASE IF NOT EXISTS ${database}`];
  const names = [database, shardDatabase(database)];
  return names.map((name) => `CREATE DATABASE IF NOT EXISTS ${name} ON CLUSTER ${quoteText(mode.cluster)}`);
}

interface Reference {
  database: SqlToken;
  table: SqlToken;
}

interface Parts {
  statement: string;
  tokens: readonly SqlToken[];
  database: string;
  onCluster: string;
  /** What is created, altered or filled. */
  target: Reference;
}

function createTable(parts: Parts, cluster: string): RenderedStatement[] {
  const { statement, tokens, database, onCluster, target } = parts;
  const name = target.table.text;
  const isSharded = placeOf(name) === "sharded";
  const home = isSharded ? shardDatabase(database) : database;
  const path = `/clickhouse/tables/${cluster}/${isSharded ? "{shard}" : "everywhere"}/${home}/${name}`;
  const replica = isSharded ? "{replica}" : "{shard}-{replica}";
  const sql = edited(statement, [
    ...(isSharded ? toShardDatabase([target], database) : []),
    after(target.table, onCluster),
    ...engineEdits(statement, tokens, [path, replica]),
    ...windowEdits(statement, tokens),
  ]);
  if (!isSharded) return [once(sql)];
  const distributed = `ENGINE = Distributed(${[cluster, home, name].map(quoteText).join(", ")})`;
  return [
    once(sql),
    once(`CREATE TABLE IF NOT EXISTS ${database}.${name}${onCluster} AS ${home}.${name}\n${distributed}`),
  ];
}

function createView({ statement, tokens, database, onCluster, target }: Parts): RenderedStatement[] {
  const sql = edited(statement, [after(target.table, onCluster)]);
  if (!isViewOfAShard(target.table.text)) return [once(sql)];
  const edits = [...toShardDatabase(references(tokens, database), database), after(target.table, onCluster)];
  return [once(edited(statement, edits)), once(sql)];
}

function alterTable({ statement, tokens, database, onCluster, target }: Parts): RenderedStatement[] {
  const sql = edited(statement, [after(target.table, onCluster)]);
  if (placeOf(target.table.text) === "everywhere") return [once(sql)];
  const own = edited(statement, [...toShardDatabase([target], database), after(target.table, onCluster)]);
  // A Distributed table has the columns and nothing else.
  const isOfColumns = tokens.some((_, at) => wordAt(tokens, at) === "COLUMN");
  return isOfColumns ? [once(own), once(sql)] : [once(own)];
}

/** No row goes through a Distributed table: each shard fills its own from its own. */
function insertInto({ statement, tokens, database, target }: Parts): RenderedStatement[] {
  const used = references(tokens, database);
  const places = new Set(used.map(({ table }) => placeOf(table.text)));
  if (places.size > 1) {
    throw new DdlError(
      `${target.table.text} and what it is filled from are not in one place: ${statement.slice(0, 100)}`,
    );
  }
  if (places.has("everywhere")) return [once(statement)];
  return [{ sql: edited(statement, toShardDatabase(used, database)), run: "each shard" }];
}

function placeOf(table: string) {
  const placement = placementOf(table);
  if (!placement)
    throw new DdlError(`table ${table} has no place in a cluster: give it one in lib/warehouse/cluster/placement.ts`);
  return placement;
}

/** Every database.table, in order. */
function references(tokens: readonly SqlToken[], database: string): Reference[] {
  return tokens.flatMap((token, at) => {
    const table = tokens[at + 2];
    const isOne = token.kind === "word" && token.text === database && tokens[at + 1]?.text === "." && table;
    return isOne ? [{ database: token, table }] : [];
  });
}

function toShardDatabase(used: readonly Reference[], database: string): Edit[] {
  return used.map(({ database: { start, end } }) => ({ start, end, text: shardDatabase(database) }));
}

/** MergeTree(a) becomes ReplicatedMergeTree('path', 'replica', a). */
function engineEdits(statement: string, tokens: readonly SqlToken[], own: readonly string[]): Edit[] {
  const at = tokens.findIndex((_, index) => wordAt(tokens, index) === "ENGINE") + 2;
  const engine = tokens[at];
  if (at < 2 || !engine?.text.endsWith("MergeTree")) {
    throw new DdlError(`no engine of the MergeTree family in: ${statement.slice(0, 100)}`);
  }
  const args = own.map(quoteText).join(", ");
  const next = tokens[at + 1];
  const name = { start: engine.start, end: engine.end, text: `Replicated${engine.text}` };
  if (next?.text !== "(") return [{ ...name, text: `${name.text}(${args})` }];
  return [name, after(next, tokens[at + 2]?.text === ")" ? args : `${args}, `)];
}

/** A table with a window remembers as many tokens as on one server, and for how long; one without remembers none. */
function windowEdits(statement: string, tokens: readonly SqlToken[]): Edit[] {
  const at = tokens.findIndex(({ text }) => text === "non_replicated_deduplication_window");
  const [name, count] = [tokens[at], tokens[at + 2]];
  if (name && count) {
    const text = `replicated_deduplication_window = ${count.text}, replicated_deduplication_window_seconds = ${WINDOW_SECONDS}`;
    return [{ start: name.start, end: count.end, text }];
  }
  const none = "replicated_deduplication_window = 0";
  const settings = tokens.find((_, index) => wordAt(tokens, index) === "SETTINGS");
  if (settings) return [after(settings, ` ${none},`)];
  return [{ start: statement.length, end: statement.length, text: `\nSETTINGS ${none}` }];
}

function wordAt(tokens: readonly SqlToken[], at: number): string {
  const token = tokens[at];
  return token?.kind === "word" ? token.text.toUpperCase() : "";
}

function after({ end }: SqlToken, text: string): Edit {
  return { start: end, end, text };
}

function once(sql: string): RenderedStatement {
  return { sql, run: "once" };
}

function edited(statement: string, edits: readonly Edit[]): string {
  let text = statement;
  for (const { start, end, text: by } of edits.toSorted((a, b) => b.start - a.start)) {
    text = text.slice(0, start) + by + text.slice(end);
  }
  return text;
}
