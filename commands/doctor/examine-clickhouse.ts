// Checks of ClickHouse: of one server, or of each node of a cluster by itself and of what they are together.
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { checkDeadLetters, checkDisks, checkInsertSettings, checkServer, type Server } from "./clickhouse.ts";
import { judgeClock } from "./clocks.ts";
import {
  type ClusterNode,
  checkClusterAccount,
  checkDistributed,
  checkReplicas,
  checkShardCount,
  checkShardOrder,
  judgeMacros,
  judgeVersions,
  nodesOf,
  readMacros,
} from "./cluster.ts";
import type { DoctorConfig } from "./config.ts";
import type { Examination, Probe } from "./probe.ts";
import { checkFsync, checkMigrations, checkPeople, checkTokens } from "./tables.ts";

export interface ClickHouse {
  /** Its tables are there. */
  tables: Probe<true>;
  warehouse: Warehouse;
}

/** Connections belong to `owner`. */
export function examineClickHouse(
  examination: Examination,
  config: DoctorConfig,
  owner: AsyncDisposableStack,
): ClickHouse {
  const { probe } = examination;
  const options = { ...clickhouseOptions(config), requestTimeoutMs: config.doctorTimeout };
  const open = (more: Partial<typeof options>): Warehouse => {
    const warehouse = createClickHouseWarehouse({ ...options, ...more });
    owner.use(warehouse);
    return warehouse;
  };
  const warehouse = open({});
  // One that also works before the database is made.
  const anyDatabase = open({ database: "default" });
  const { cluster } = options;
  if (!cluster) {
    const one = { warehouse, anyDatabase, own: warehouse, url: config.clickhouseUrl, label: undefined };
    const { tables } = examineServer(examination, config, one);
    probe("dead letters", { tables }, (_, signal) => checkDeadLetters(warehouse, signal));
    probe("people", { tables }, (_, signal) => checkPeople(warehouse, signal));
    return { tables, warehouse };
  }
  const server = probe("ClickHouse", {}, (_, signal) => checkServer(anyDatabase, config.clickhouseUrl, signal));
  const tables = probe("migrations", { server }, (_, signal) => checkMigrations(anyDatabase, config, signal));
  probe("shards", { server }, (_, signal) => checkShardCount(anyDatabase, signal));
  probe("people", { tables }, (_, signal) => checkPeople(warehouse, signal));
  probe("order of shards", { tables }, (_, signal) => checkShardOrder(warehouse, signal));
  const nodes = nodesOf(cluster.shards).map((node) => {
    const alone = { url: node.url, cluster: { name: cluster.name, shards: [[node.url]] } };
    const whole = open(alone);
    const own = shardsOf(whole)[0] as Warehouse;
    return { ...node, warehouse: whole, own, anyDatabase: open({ ...alone, database: "default" }) };
  });
  const servers = nodes.map((node) => examineNode(examination, config, cluster.name, node));
  probe("versions", { server }, async () => {
    const results = await Promise.all(servers.map((each) => each.result));
    return judgeVersions(
      results.flatMap(({ value }, at) => (value ? [{ ...(nodes[at] as ClusterNode), ...value }] : [])),
    );
  });
  probe("macros", { server }, async (_, signal) => {
    const answering = (await Promise.all(servers.map((each) => each.result))).map(({ value }) => value !== undefined);
    const asked = nodes.filter((_, at) => answering[at]);
    return judgeMacros(
      await Promise.all(
        asked.map(async ({ label, shard, anyDatabase: node }) => ({
          label,
          shard,
          macros: await readMacros(node, signal),
        })),
      ),
    );
  });
  for (const [shard, one] of shardsOf(warehouse).entries()) {
    probe(`dead letters of shard ${shard + 1}`, { tables }, (_, signal) => checkDeadLetters(one, signal));
  }
  return { tables, warehouse };
}

interface ServerAccess {
  /** What it is called among others; undefined: it is the only one. */
  label: string | undefined;
  url: string;
  anyDatabase: Warehouse;
  /** Of the tables that the log fills. */
  own: Warehouse;
}

function examineServer(
  { probe }: Examination,
  config: DoctorConfig,
  { label, url, anyDatabase, own }: ServerAccess,
): { server: Probe<Server>; tables: Probe<true> } {
  const named = (name: string) => (label === undefined ? name : `${name} of ${label}`);
  const server = probe(named("ClickHouse"), {}, (_, signal) => checkServer(anyDatabase, url, signal));
  probe(named("ClickHouse clock"), { server }, async ({ server: { clockSkewMs, uncertainMs } }) =>
    judgeClock(named("ClickHouse"), clockSkewMs, uncertainMs),
  );
  probe(named("insert settings"), { server }, (_, signal) => checkInsertSettings(anyDatabase, signal));
  probe(named("ClickHouse disks"), { server }, (_, signal) => checkDisks(anyDatabase, signal));
  const tables = probe(named("migrations"), { server }, (_, signal) => checkMigrations(anyDatabase, config, signal));
  probe(named("insert tokens"), { tables }, (_, signal) => checkTokens(own, signal));
  probe(named("fsync"), { tables }, (_, signal) => checkFsync(own, signal));
  return { server, tables };
}

function examineNode(
  examination: Examination,
  config: DoctorConfig,
  cluster: string,
  node: ClusterNode & ServerAccess,
): Probe<Server> {
  const { probe } = examination;
  const { label, anyDatabase } = node;
  const { clickhouseDatabase: database } = config;
  const { server, tables } = examineServer(examination, config, node);
  probe(`account of ${label}`, { server }, (_, signal) => checkClusterAccount(anyDatabase, signal));
  probe(`replicas of ${label}`, { tables }, (_, signal) => checkReplicas(anyDatabase, database, signal));
  probe(`distributed tables of ${label}`, { tables }, (_, signal) =>
    checkDistributed(anyDatabase, { cluster, database }, signal),
  );
  return server;
}
