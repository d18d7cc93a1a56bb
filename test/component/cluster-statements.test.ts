// What a cluster and ClickHouse Cloud are sent, and where: neither runs here, so that servers stand in for their nodes
// which take everything and write it down.
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { deletePerson } from "#lib/identity/erasure/delete-person.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import { applyPromoted, fillColumn, type PromotedProperty, promote } from "#lib/warehouse/promoted-columns.ts";
import { applyRetentions } from "#lib/warehouse/retention.ts";
import { warehouseOf } from "#lib/warehouse/warehouse.ts";
import { main as persons } from "../../commands/persons/main.ts";

interface Statement {
  node: number;
  sql: string;
  settings: Record<string, string>;
}

const directory = fileURLToPath(new URL("../../migrations", import.meta.url));
const account = { user: "default", password: "" };
let nodes: Server[];
let urls: string[];
let statements: Statement[];
let isCloud: boolean;
let shardsThere: number;
/** There is the list of promoted properties, with one that has no column yet. */
let isPromoted: boolean;

const RECORD = '{"key":"plan","column":"p_plan","type":"String","promoted":true}\n';

async function startNode(node: number): Promise<Server> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { query, ...settings } = Object.fromEntries(new URL(request.url ?? "/", "http://node").searchParams);
    const sql = query ?? Buffer.concat(chunks).toString();
    statements.push({ node, sql, settings });
    if (sql.includes("system.clusters")) response.end(`{"n":"${shardsThere}"}\n`);
    else if (isPromoted && sql.includes("FROM promoted_properties")) response.end(RECORD);
    else if (isPromoted && sql.includes("name = 'promoted_properties'")) response.end('{"1":1}\n');
    else if (isPromoted && sql.includes("name = 'events'"))
      response.end('{"select":"SELECT uuid FROM m.events_raw"}\n');
    else response.end(isCloud && sql.includes("system.table_engines") ? '{"n":"1"}\n' : "");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

beforeAll(async () => {
  nodes = await Promise.all([0, 1, 2].map(startNode));
  urls = nodes.map((node) => `http://127.0.0.1:${(node.address() as AddressInfo).port}`);
});
beforeEach(() => {
  statements = [];
  isCloud = false;
  shardsThere = 2;
  isPromoted = false;
});
afterAll(() => {
  for (const node of nodes) {
    node.closeAllConnections();
    node.close();
  }
});

const cluster = () => ({ name: "events", shards: [[urls[0] as string, urls[1] as string], [urls[2] as string]] });
const open = () => createClickHouseWarehouse({ url: urls[0] as string, ...account, database: "m", cluster: cluster() });
const nodesOf = (part: string | RegExp) =>
  statements.filter(({ sql }) => sql.search(part) >= 0).map(({ node }) => node);

describe("a cluster", () => {
  it("is migrated through one node, and filled through one node of each shard", async () => {
    const connection = { url: urls[0] as string, ...account };
    const { applied } = await migrate({ connection, cluster: cluster(), database: "m", directory });
    expect(applied.length).toBeGreaterThan(5);
    expect(new Set(nodesOf("ON CLUSTER 'events'"))).toEqual(new Set([0]));
    expect(nodesOf("INSERT INTO m_local.rollup_progress")).toEqual([0, 2]);
    const fills = statements.filter(({ sql }) => sql.includes("INSERT INTO m_local"));
    expect(fills.map(({ settings }) => settings.database)).toEqual(["m_local", "m_local"]);
    expect(nodesOf("INSERT INTO m.schema_migrations")).toHaveLength(applied.length);
    const created = statements.filter(({ sql }) => /CREATE|ALTER/.test(sql));
    expect(created.filter(({ sql }) => !sql.includes("ON CLUSTER 'events'"))).toEqual([]);
    expect(nodesOf("system.table_engines")).toEqual([]);
  });

  it.each([
    [0, "knows no cluster events"],
    [3, "has 3 shards, CLICKHOUSE_SHARD_URLS has 2"],
  ])("of %i shards is not migrated when settings name two", async (there, fault) => {
    shardsThere = there;
    const connection = { url: urls[0] as string, ...account };
    await expect(migrate({ connection, cluster: cluster(), database: "m", directory })).rejects.toThrow(fault);
    expect(nodesOf("CREATE")).toEqual([]);
  });

  it("acknowledges writes by the majority of replicas, partitions side by side, under their tokens", async () => {
    const warehouse = open();
    const insertion = { table: "events_raw", columns: ["uuid"], rows: Buffer.from("[1]\n"), token: "t" };
    await warehouseOf(warehouse, 3).insert(insertion);
    const quorum = { insert_quorum: "auto", insert_quorum_parallel: "1" };
    expect(statements).toMatchObject([
      { node: 2, settings: { ...quorum, database: "m_local", insert_deduplication_token: "t", async_insert: "0" } },
    ]);
    await warehouseOf(warehouse, 2).command("INSERT INTO points_5m SELECT * FROM event_points");
    expect(statements.slice(1)).toMatchObject([
      { node: 0, sql: expect.stringContaining("SYNC REPLICA `m_local`.`points_5m` LIGHTWEIGHT") },
      { node: 0, sql: expect.stringContaining("SYNC REPLICA `m_local`.`events_raw` LIGHTWEIGHT") },
      { node: 0, sql: expect.stringContaining("INSERT INTO points_5m"), settings: quorum },
    ]);
    await warehouse[Symbol.asyncDispose]();
  });

  it("has catch up, with the reader, what every node holds and not what is read through Distributed", async () => {
    const warehouse = open();
    await warehouse.query("SELECT count() FROM identity_edges, events_raw, m.log_epochs WHERE x != 'alerts'");
    expect(statements.map(({ sql }) => /SYNC REPLICA (\S+)/.exec(sql)?.[1])).toEqual([
      "`m`.`identity_edges`",
      "`m`.`log_epochs`",
      undefined,
    ]);
    expect(statements.at(-1)?.settings).not.toHaveProperty("select_sequential_consistency");
    await warehouse[Symbol.asyncDispose]();
  });

  it("has its retentions set on the shards' tables, on every replica", async () => {
    const warehouse = open();
    const retentions = { eventsRetention: 86_400_000, pointsRetention: undefined, retention: undefined };
    await applyRetentions(warehouse, retentions, { info: () => {} });
    const altered = statements.filter(({ sql }) => sql.startsWith("ALTER"));
    expect(altered.map(({ node }) => node)).toEqual([0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2]);
    for (const { sql, settings } of altered) {
      expect(sql).toMatch(/^ALTER TABLE \w+ ON CLUSTER 'events' MODIFY/);
      expect(settings.database).toBe("m_local");
    }
    await warehouse[Symbol.asyncDispose]();
  });

  it("gets a promoted property on the shards' tables, then on the Distributed one, and its list on every node", async () => {
    const warehouse = open();
    const property: PromotedProperty = { key: "plan", column: "p_plan", type: "String" };
    // Nothing is stored of what is written down, so that it is taken no further than the list.
    await promote(warehouse, property);
    const [list] = statements.filter(({ sql }) => sql.includes("CREATE TABLE"));
    expect(list?.sql).toMatch(/^CREATE TABLE IF NOT EXISTS m\.promoted_properties ON CLUSTER 'events'/);
    expect(list?.sql).toContain(
      "ReplicatedReplacingMergeTree('/clickhouse/tables/events/everywhere/m/promoted_properties'",
    );
    expect(nodesOf("INSERT INTO promoted_properties")).toEqual([0]);
    statements = [];
    isPromoted = true;
    await applyPromoted(warehouse);
    const added = statements.filter(({ sql }) => /ADD COLUMN|REPLACE VIEW/.test(sql));
    expect(added.map(({ node, sql }) => [node, sql.slice(0, sql.indexOf("events'") + 7)])).toEqual([
      [0, "ALTER TABLE m_local.events_raw ON CLUSTER 'events'"],
      [0, "ALTER TABLE m.events_raw ON CLUSTER 'events'"],
      [0, "CREATE OR REPLACE VIEW m.events ON CLUSTER 'events'"],
    ]);
    statements = [];
    await fillColumn(warehouse, "p_plan");
    const filled = statements.filter(({ sql }) => sql.includes("MATERIALIZE COLUMN"));
    expect(filled.map(({ node, sql, settings }) => [node, sql, settings.database])).toEqual([
      [0, "ALTER TABLE events_raw MATERIALIZE COLUMN `p_plan`", "m_local"],
      [2, "ALTER TABLE events_raw MATERIALIZE COLUMN `p_plan`", "m_local"],
    ]);
    await warehouse[Symbol.asyncDispose]();
  });

  it("has catch up, with a shard, what every node holds when the shard is asked for it by its database", async () => {
    const warehouse = open();
    await warehouseOf(warehouse, 1).query("SELECT count() FROM events_raw, m.erasures, m.events_raw, erasure_turns");
    expect(statements.map(({ sql }) => /SYNC REPLICA (\S+)/.exec(sql)?.[1])).toEqual([
      "`m_local`.`events_raw`",
      "`m`.`erasures`",
      undefined,
    ]);
    await warehouse[Symbol.asyncDispose]();
  });

  it("is left alone by persons, which says so", async () => {
    const said: string[] = [];
    const terminal = { out: (text: string) => void said.push(text), err: (text: string) => void said.push(text) };
    const env = { CLICKHOUSE_CLUSTER: "events", CLICKHOUSE_URL: urls[0] as string, KAFKA_BROKERS: "127.0.0.1:1" };
    expect(await persons(["delete", "--distinct-id", "somebody", "--yes"], env, terminal as never)).not.toBe(0);
    expect(said.join("")).toContain("not made for clusters yet");
    expect(statements).toEqual([]);
  });
});

it("nobody is deleted from a cluster, by command or by RPC", async () => {
  const warehouse = open();
  await expect(deletePerson({ warehouse } as never, "id")).rejects.toThrow("not made for clusters yet");
  expect(statements).toEqual([]);
  await warehouse[Symbol.asyncDispose]();
});

describe("ClickHouse Cloud", () => {
  it("is known by its engine, and gets windows that its tables have", async () => {
    isCloud = true;
    await migrate({ connection: { url: urls[0] as string, ...account }, database: "m", directory });
    const [events] = statements.filter(({ sql }) => sql.includes("m.events_raw\n("));
    expect(events?.sql).toContain("replicated_deduplication_window_seconds = 604800");
    expect(nodesOf("ON CLUSTER")).toEqual([]);
  });

  it("is asked for what any of its servers has taken", async () => {
    const warehouse = createClickHouseWarehouse({ url: urls[1] as string, ...account, database: "m" });
    await warehouse.query("SELECT 1 FROM events_raw");
    expect(statements).toMatchObject([{ node: 1, settings: { select_sequential_consistency: "1" } }]);
    await warehouse[Symbol.asyncDispose]();
  });
});

describe("settings", () => {
  const base = { clickhouseUrl: "http://a", clickhouseUser: "u", clickhousePassword: "", clickhouseDatabase: "m" };

  it("name one shard when only the cluster is named, and none for one server", () => {
    expect(clickhouseOptions({ ...base, clickhouseCluster: "c" }).cluster).toEqual({
      name: "c",
      shards: [["http://a"]],
    });
    expect(clickhouseOptions(base)).not.toHaveProperty("cluster");
  });

  it("of shards without a cluster are refused: one server would get all rows", () => {
    expect(() => clickhouseOptions({ ...base, clickhouseShardUrls: [["http://a"]] })).toThrow("set CLICKHOUSE_CLUSTER");
  });
});
