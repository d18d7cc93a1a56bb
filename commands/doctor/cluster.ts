// What only a cluster has: its shards and their order, tables with replicas, Distributed tables, and what it needs to know
// about each node.
import { shardDatabase } from "#lib/warehouse/cluster/placement.ts";
import { shardCountFault, shardOrderFault } from "#lib/warehouse/cluster/shards.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Finding } from "./probe.ts";

/** One address of CLICKHOUSE_SHARD_URLS. */
export interface ClusterNode {
  /** As it is called in findings: "shard 2", or "shard 2, replica 1" where a shard has several. */
  label: string;
  url: string;
  shard: number;
}

export function nodesOf(shards: readonly (readonly string[])[]): ClusterNode[] {
  return shards.flatMap((replicas, shard) =>
    replicas.map((url, replica) => {
      const label = `shard ${shard + 1}${replicas.length > 1 ? `, replica ${replica + 1}` : ""}`;
      return { label, url, shard };
    }),
  );
}

/** `warehouse` is of a database that always exists. */
export async function checkShardCount(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const fault = await shardCountFault(warehouse, signal);
  if (fault !== undefined) return { status: "fail", what: fault, fix: "correct the settings and restart all services" };
  const { name = "", shards = [] } = warehouse.cluster ?? {};
  return { status: "ok", what: `${name}: ${shards.length} shards, as many as settings name` };
}

export async function checkShardOrder(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const fault = await shardOrderFault(warehouse, signal);
  if (fault === undefined) return { status: "ok", what: "each shard has the partitions that belong to it" };
  return {
    status: "fail",
    what: fault,
    fix: "stop the consumers until the order is as it was; then `millrace verify`",
  };
}

/** Nodes of different versions may write parts that others cannot read. */
export function judgeVersions(versions: readonly { label: string; version: string }[]): Finding {
  const [first] = versions;
  const other = versions.find(({ version }) => version !== first?.version);
  if (!first || !other) return { status: "ok", what: `all ${versions.length} nodes have ${first?.version}` };
  const what = `${first.label} has ${first.version}, ${other.label} has ${other.version}`;
  return { status: "warn", what, fix: "bring all nodes to one version" };
}

export interface ReplicaState {
  /** With its database. */
  table: string;
  readonly: boolean;
  /** Entries of the replication log that are still to be done. */
  queued: number;
  /** Seconds. */
  delay: number;
  replicas: number;
  active: number;
  fault: string;
}

const DELAY_WARN_SECONDS = 60;
const QUEUE_WARN = 1_000;
const MILLRACE_TABLES = "database IN {databases:Array(String)}";

/** `database` is the one that is read, of which the node has tables of its own beside it. */
export async function checkReplicas(warehouse: Warehouse, database: string, signal: AbortSignal): Promise<Finding> {
  const databases = [database, shardDatabase(database)];
  const rows = await warehouse.query<Record<string, string | number>>(
    `SELECT concat(database, '.', table) AS full, is_readonly OR is_session_expired AS readonly, queue_size AS queued,
       absolute_delay AS delay, total_replicas AS replicas, active_replicas AS active, last_queue_update_exception AS fault
     FROM system.replicas WHERE ${MILLRACE_TABLES} ORDER BY full`,
    { params: { databases }, signal },
  );
  const [plain] = await warehouse.query<{ full: string }>(
    `SELECT concat(database, '.', name) AS full FROM system.tables
     WHERE ${MILLRACE_TABLES} AND engine LIKE '%MergeTree'
       AND (database, name) NOT IN (SELECT database, table FROM system.replicas WHERE ${MILLRACE_TABLES})
     ORDER BY full LIMIT 1`,
    { params: { databases }, signal },
  );
  if (plain) {
    const what = `${plain.full} has no replicas: its engine is not a Replicated one`;
    return {
      status: "fail",
      what,
      fix: "the tables were made without CLICKHOUSE_CLUSTER: docs/deploy/clickhouse-cluster.md",
    };
  }
  return judgeReplicas(
    rows.map((row) => ({
      ...{ table: String(row.full), fault: String(row.fault), readonly: Number(row.readonly) === 1 },
      ...{ queued: Number(row.queued), delay: Number(row.delay) },
      ...{ replicas: Number(row.replicas), active: Number(row.active) },
    })),
  );
}

export function judgeReplicas(states: readonly ReplicaState[]): Finding {
  const stuck = states.find(({ readonly }) => readonly);
  if (stuck) {
    const what = `${stuck.table} is read-only: this node has no session with Keeper${stuck.fault === "" ? "" : ` (${stuck.fault})`}`;
    return { status: "fail", what, fix: "see Keeper, and SYSTEM RESTORE REPLICA if its data was lost" };
  }
  // Inserts want the majority of replicas.
  const lacking = states.find(({ active, replicas }) => active <= replicas / 2);
  if (lacking) {
    const what = `${lacking.table} has ${lacking.active} of ${lacking.replicas} replicas: inserts wait for the majority`;
    return { status: "fail", what, fix: "start the nodes that are missing" };
  }
  const fewer = states.find(({ active, replicas }) => active < replicas);
  if (fewer) {
    const what = `${fewer.table} has ${fewer.active} of ${fewer.replicas} replicas`;
    return { status: "warn", what, fix: "start the nodes that are missing" };
  }
  const late = states.find(({ queued, delay }) => queued > QUEUE_WARN || delay > DELAY_WARN_SECONDS);
  if (late) {
    const what = `${late.table} is ${late.delay} s behind with ${late.queued} entries queued`;
    return { status: "warn", what, fix: "see system.replication_queue on this node" };
  }
  return { status: "ok", what: `${states.length} tables, all their replicas present and up to date` };
}

/** `database` is the one that is read: of its tables those that are in parts must be over this cluster's shards. */
export async function checkDistributed(
  warehouse: Warehouse,
  { cluster, database }: { cluster: string; database: string },
  signal: AbortSignal,
): Promise<Finding> {
  const rows = await warehouse.query<{ name: string; definition: string }>(
    `SELECT name, engine_full AS definition FROM system.tables
     WHERE database = {database:String} AND engine = 'Distributed' ORDER BY name`,
    { params: { database }, signal },
  );
  const fix = "drop it, which removes no rows, and restore it as test/golden/ddl-cluster.sql has it";
  const foreign = rows.find(({ name, definition }) => {
    const over = [cluster, shardDatabase(database), name].map((each) => `'${each}'`).join(", ");
    return !definition.startsWith(`Distributed(${over}`);
  });
  if (foreign) return { status: "fail", what: `${database}.${foreign.name} is ${foreign.definition}`, fix };
  if (!rows.some(({ name }) => name === "events_raw")) {
    return {
      status: "fail",
      what: `${database}.events_raw is not a Distributed table: readers miss the other shards`,
      fix,
    };
  }
  return { status: "ok", what: `${rows.length} tables are read over all shards of ${cluster}` };
}

/** What an account may have been given that changes what is acknowledged, or hides a shard from readers. */
export async function checkClusterAccount(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const names = ["insert_quorum", "insert_quorum_parallel", "skip_unavailable_shards"];
  const rows = await warehouse.query<{ name: string; value: string; readonly: number }>(
    "SELECT name, value, readonly FROM system.settings WHERE name IN {names:Array(String)}",
    { params: { names }, signal },
  );
  const fixed = rows.find(({ name, readonly }) => name.startsWith("insert_quorum") && Number(readonly) === 1);
  if (fixed) {
    const what = `this account may not set ${fixed.name}, which every insert of Millrace does: inserts are refused`;
    return { status: "fail", what, fix: `take the constraint on ${fixed.name} out of the account's profile` };
  }
  if (rows.find(({ name }) => name === "skip_unavailable_shards")?.value === "1") {
    const what = "skip_unavailable_shards is on: with a shard away, reads answer without its rows and do not say so";
    return { status: "warn", what, fix: "set skip_unavailable_shards = 0 in the account's profile" };
  }
  return { status: "ok", what: "quorums may be set, and reads fail rather than leave a shard out" };
}

export interface NodeMacros {
  label: string;
  shard: number;
  /** Undefined: the node does not define it. */
  macros: { shard?: string; replica?: string };
}

export async function readMacros(warehouse: Warehouse, signal: AbortSignal): Promise<NodeMacros["macros"]> {
  const rows = await warehouse.query<{ name: string; value: string }>(
    "SELECT macro AS name, substitution AS value FROM system.macros WHERE macro IN ('shard', 'replica')",
    { signal },
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

/** Paths in Keeper are made of them: two nodes of one path have the same rows. */
export function judgeMacros(nodes: readonly NodeMacros[]): Finding {
  const fix = "correct the node's macros, before its tables are made";
  for (const { label, macros } of nodes) {
    const missing = (["shard", "replica"] as const).find((name) => macros[name] === undefined);
    if (missing) return { status: "fail", what: `${label} has no macro {${missing}}`, fix };
  }
  for (const [at, one] of nodes.entries()) {
    for (const other of nodes.slice(at + 1)) {
      const [a, b] = [one.macros, other.macros];
      const both = `${one.label} and ${other.label}`;
      const isSameShard = one.shard === other.shard;
      if (isSameShard && a.shard !== b.shard) {
        return { status: "fail", what: `${both} have different macros {shard}, ${a.shard} and ${b.shard}`, fix };
      }
      if (!isSameShard && a.shard === b.shard) {
        return { status: "fail", what: `${both} both have ${a.shard} as macro {shard}`, fix };
      }
      if (isSameShard && a.replica === b.replica) {
        return { status: "fail", what: `${both} both have ${a.replica} as macro {replica}`, fix };
      }
    }
  }
  return { status: "ok", what: "shards and replicas have names of their own" };
}
