// A cluster of ClickHouse as one warehouse, and each shard of it as another. Writes of a partition go to its shard
// directly, so that a retry meets the same shard and its token; nothing is written through a Distributed table.
//
// A shard is spoken to through one replica for as long as that one answers. An insert is acknowledged by the majority of
// replicas, and before a question its tables are made to catch up on the replica that is asked: the next owner of a
// partition, at whatever replica, sees every insert that was acknowledged to the last one. select_sequential_consistency
// would need insert_quorum_parallel = 0, under which partitions that share a table refuse each other's inserts.

import { quoteIdentifier, scanSql } from "../sql.ts";
import { type QueryOptions, type Warehouse, WarehouseError } from "../warehouse.ts";
import { replicatedTable, shardDatabase } from "./placement.ts";

export interface ClusterOptions {
  /** As ClickHouse's configuration has it. */
  name: string;
  /** Addresses of the replicas of each shard, the one to begin with first. Their order is the shards' order for good. */
  shards: readonly (readonly string[])[];
}

/** A server of the cluster as a warehouse of its own. */
export type OpenNode = (url: string, database: string) => Warehouse;

const SYNC_SECONDS_MAX = 60;
const TABLE_IS_READ_ONLY = 242;

/** `url` is the node asked first for what is not of one shard. Disposing it disposes its shards. */
export function createClusterWarehouse(
  { name, shards }: ClusterOptions,
  { url, database }: { url: string; database: string },
  openNode: OpenNode,
): Warehouse {
  const every = [...new Set([url, ...shards.flat()])];
  const whole = createReplicas(
    every.map((node) => openNode(node, database)),
    false,
  );
  const ofShards = shards.map((replicas) =>
    createReplicas(
      replicas.map((node) => openNode(node, shardDatabase(database))),
      true,
    ),
  );
  return {
    ...whole,
    cluster: { name, shards: ofShards },
    async [Symbol.asyncDispose]() {
      await Promise.all([whole, ...ofShards].map((one) => one[Symbol.asyncDispose]()));
    },
  };
}

/** Nodes that hold the same rows, as one warehouse. */
function createReplicas(nodes: readonly Warehouse[], isShard: boolean): Warehouse {
  let current = 0;

  /** No second attempt here: the caller knows what it may repeat, and then meets the next replica. */
  async function onCurrent<T>(call: (node: Warehouse) => Promise<T>): Promise<T> {
    const asked = current;
    try {
      return await call(nodes[asked] as Warehouse);
    } catch (error) {
      if (isOfTheNode(error) && asked === current) current = (asked + 1) % nodes.length;
      throw error;
    }
  }

  async function caughtUp<T>(sql: string, { signal }: QueryOptions, call: (node: Warehouse) => Promise<T>): Promise<T> {
    return onCurrent(async (node) => {
      for (const table of replicatedTablesIn(sql, node.database, isShard)) {
        await node.command(`SYSTEM SYNC REPLICA ${table} LIGHTWEIGHT`, { signal, maxSeconds: SYNC_SECONDS_MAX });
      }
      return call(node);
    });
  }

  return {
    database: (nodes[0] as Warehouse).database,
    query: <Row>(sql: string, options: QueryOptions = {}) =>
      caughtUp(sql, options, (node) => node.query<Row>(sql, options)),
    readBinary: (sql, take, options = {}) => caughtUp(sql, options, (node) => node.readBinary(sql, take, options)),
    command: (sql, options = {}) =>
      // A definition has nothing to catch up with, and its table may not be there yet.
      /^\s*INSERT\b/i.test(sql)
        ? caughtUp(sql, options, (node) => node.command(sql, options))
        : onCurrent((node) => node.command(sql, options)),
    insert: (options) => onCurrent((node) => node.insert(options)),
    ping: (signal) => onCurrent((node) => node.ping(signal)),
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    },
  };
}

/** The node is away, or cannot write: another one may. */
function isOfTheNode(error: unknown): boolean {
  if (!(error instanceof WarehouseError) || error.kind !== "transient") return false;
  return error.code === undefined || error.code === TABLE_IS_READ_ONLY;
}

/**
 * Quoted names, with their database, of the tables in the statement that this node has a replica of. A shard is asked for
 * what every node has under its database's name.
 */
function replicatedTablesIn(sql: string, database: string, isShard: boolean): Set<string> {
  const tables = new Set<string>();
  const tokens = [...scanSql(sql)];
  for (const [at, { kind, text }] of tokens.entries()) {
    if (kind !== "word" && kind !== "quoted") continue;
    const owner = (tokens[at - 1]?.text === "." ? tokens[at - 2]?.text : undefined) ?? database;
    const table = replicatedTable(text, isShard && shardDatabase(owner) !== database);
    if (table !== undefined) tables.add(`${quoteIdentifier(owner)}.${quoteIdentifier(table)}`);
  }
  return tables;
}
