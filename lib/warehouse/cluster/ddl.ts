// A migration's statements for a cluster: engine, names and deduplication window are put in. Its nodes define the macros
// {shard} and {replica}.
import {
  after,
  DdlError,
  type Dialect,
  type Edit,
  edited,
  isCreateTable,
  once,
  type RenderedStatement,
  windowEdits,
  wordAt,
} from "../ddl.ts";
import { quoteText, type SqlToken, scanSql } from "../sql.ts";
import { isViewOfAShard, placementOf, shardDatabase } from "./placement.ts";

/** `cluster` is its name in ClickHouse's configuration. */
export function clusterDialect(cluster: string): Dialect {
  const onCluster = ` ON CLUSTER ${quoteText(cluster)}`;
  return {
    render(statement, database) {
      const tokens = [...scanSql(statement)];
      const target = references(tokens, database)[0];
      if (!target) throw new DdlError(`no table of {{DATABASE}} in: ${statement.slice(0, 100)}`);
      const parts: Parts = { statement, tokens, database, onCluster, target };
      const verb = wordAt(tokens, 0);
      if (isCreateTable(tokens)) return createTable(parts, cluster);
      if (verb === "CREATE" && tokens.slice(1, 4).some((_, at) => wordAt(tokens, at + 1) === "VIEW")) {
        return createView(parts);
      }
      if (verb === "ALTER") return alterTable(parts);
      if (verb === "INSERT") return insertInto(parts);
      throw new DdlError(`a cluster has no form of: ${statement.slice(0, 100)}`);
    },
    // The database that is read, and the one that holds each shard's own tables.
    databases: (database) =>
      [database, shardDatabase(database)].map((name) => `CREATE DATABASE IF NOT EXISTS ${name}${onCluster}`),
  };
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
