// Whether the shards that settings name are those of the cluster, and still those that the rows were cut by.
import { shardsOf, type Warehouse } from "../warehouse.ts";

/** What is wrong with the number of shards; undefined when nothing is. Rejects with WarehouseError. */
export async function shardCountFault(warehouse: Warehouse, signal?: AbortSignal): Promise<string | undefined> {
  const { cluster } = warehouse;
  if (!cluster) return undefined;
  const [row] = await warehouse.query<{ n: string }>(
    "SELECT uniqExact(shard_num) AS n FROM system.clusters WHERE cluster = {cluster:String}",
    { params: { cluster: cluster.name }, signal },
  );
  const there = Number(row?.n ?? 0);
  if (there === 0)
    return `ClickHouse knows no cluster ${cluster.name}: set CLICKHOUSE_CLUSTER to one of system.clusters.`;
  if (there === cluster.shards.length) return undefined;
  return `Cluster ${cluster.name} has ${there} shards, CLICKHOUSE_SHARD_URLS has ${cluster.shards.length}: name all of them.`;
}

/**
 * What is wrong with the shards' order or number, by the partitions that each has; undefined when nothing is. A partition
 * is in rollup_progress before it has rows. Rejects with WarehouseError.
 */
export async function shardOrderFault(warehouse: Warehouse, signal?: AbortSignal): Promise<string | undefined> {
  if (!warehouse.cluster) return undefined;
  for (const [shard, one] of shardsOf(warehouse).entries()) {
    const params = { shards: warehouse.cluster.shards.length, shard };
    const [row] = await one.query<{ p: number }>(
      "SELECT log_partition AS p FROM rollup_progress WHERE log_partition % {shards:UInt32} != {shard:UInt32} LIMIT 1",
      { params, signal },
    );
    if (row) {
      return (
        `Partition ${row.p} is on shard ${shard + 1} of ${params.shards}, where it does not belong: the order or the number ` +
        "of the shards in CLICKHOUSE_SHARD_URLS has changed. Put it back; partitions cannot move."
      );
    }
  }
  return undefined;
}
