// Where the tables of a cluster are. What is filled partition by partition is cut by partition of the log: partition p is
// on shard p mod S, in a database of its own beside the one that is read, where a Distributed table has its name. All else
// is small, or has to be seen as one (who is who): every node of every shard has the whole of it.

/** Tables that hold one shard's partitions on that shard. */
const SHARDED = new Set(["events_raw", "log_outcomes", "dead_letters", "points", "points_5m", "rollup_progress"]);

/** Tables of which every node is a replica. */
const EVERYWHERE = new Set([
  ...["schema_migrations", "log_progress", "log_hours", "log_epochs", "verify_runs"],
  ...["identity_edges", "identity_ids", "identity_properties", "person_overrides", "identity_progress"],
  ...["group_keys", "group_properties"],
  ...["erasures", "erasure_turns", "alerts", "alert_events", "promoted_properties"],
]);

/** Views that a shard has over its own tables too, for the roll-up of a partition, and what they read. */
const VIEWS_OF_A_SHARD = new Map([["event_points", "events_raw"]]);

export type Placement = "sharded" | "everywhere";

/** Undefined for a name that nobody has given a place. */
export function placementOf(table: string): Placement | undefined {
  if (SHARDED.has(table)) return "sharded";
  return EVERYWHERE.has(table) ? "everywhere" : undefined;
}

/** The database of a shard's own tables. */
export function shardDatabase(database: string): string {
  return `${database}_local`;
}

export function isViewOfAShard(view: string): boolean {
  return VIEWS_OF_A_SHARD.has(view);
}

/** The table with replicas that this name stands for in the database; undefined when its rows are not this node's. */
export function replicatedTable(name: string, isShardDatabase: boolean): string | undefined {
  const table = isShardDatabase ? (VIEWS_OF_A_SHARD.get(name) ?? name) : name;
  return placementOf(table) === (isShardDatabase ? "sharded" : "everywhere") ? table : undefined;
}
