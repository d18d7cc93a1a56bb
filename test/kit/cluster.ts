// A cluster of two shards for tests, each shard a real ClickHouse behind a node of its own over HTTP. Neither Keeper nor
// Distributed tables run here, so a node changes what is sent to it in these ways and no others:
//
// - A Replicated engine is the engine without replicas. ON CLUSTER is run on every node, one after the other, and so is an
//   insert into a table that every node has.
// - A Distributed table is an empty table of the same columns, so that a query that reads rows through it misses them; writing
//   through it, or changing rows, is refused.
// - A replica that is to catch up has, if there is the table. system.clusters, macros, replicas and tables say what the
//   test sets, in `tables`.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { startTestClickHouse, type TestClickHouse } from "./clickhouse.ts";

const CLUSTER = "events";
const SHARDED = "events_raw|log_outcomes|dead_letters|points|points_5m|rollup_progress";

export interface TestCluster extends AsyncDisposable {
  /** Addresses of the nodes, one a shard, in the shards' order. */
  readonly urls: readonly string[];
  /** The engines behind the nodes. */
  readonly servers: readonly TestClickHouse[];
  /** Settings that name the cluster. */
  readonly env: Record<string, string>;
  /** What was sent, as it was sent. */
  readonly statements: { node: number; sql: string }[];
  /** SELECTs that stand for a system table, by its name; {node} is the number of the node, from 0. */
  readonly tables: Map<string, string>;
}

export async function startTestCluster(): Promise<TestCluster> {
  const servers = await Promise.all([startTestClickHouse(), startTestClickHouse()]);
  const statements: TestCluster["statements"] = [];
  const tables = new Map([
    ["clusters", `SELECT '${CLUSTER}' AS cluster, toUInt32(arrayJoin([1, 2])) AS shard_num`],
    [
      "macros",
      "SELECT arrayJoin([('shard', toString({node})), ('replica', 'r')]) AS m, m.1 AS macro, m.2 AS substitution",
    ],
    ["replicas", HEALTHY_REPLICAS],
    ["tables", WITH_DISTRIBUTED],
  ]);
  const nodes = await Promise.all(servers.map((_, node) => startNode(node, { servers, statements, tables })));
  const urls = nodes.map((node) => `http://127.0.0.1:${(node.address() as AddressInfo).port}`);
  return {
    urls,
    servers,
    statements,
    tables,
    env: {
      CLICKHOUSE_URL: urls[0] as string,
      CLICKHOUSE_CLUSTER: CLUSTER,
      CLICKHOUSE_SHARD_URLS: urls.join(","),
    },
    async [Symbol.asyncDispose]() {
      for (const node of nodes) {
        node.closeAllConnections();
        node.close();
      }
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  };
}

/** Of every table of Millrace: itself, writable, with nothing to fetch. */
export const HEALTHY_REPLICAS = `SELECT database, name AS table, 0 AS is_readonly, 0 AS is_session_expired, 0 AS queue_size,
  0 AS absolute_delay, 2 AS total_replicas, 2 AS active_replicas, '' AS last_queue_update_exception
  FROM system.tables WHERE engine LIKE '%MergeTree'`;

const IS_DISTRIBUTED = `match(name, '^(${SHARDED})$') AND NOT endsWith(database, '_local')`;
const DISTRIBUTED = `concat('Distributed(\\'${CLUSTER}\\', \\'', database, '_local\\', \\'', name, '\\')')`;
const WITH_DISTRIBUTED = `SELECT * REPLACE (if(${IS_DISTRIBUTED}, 'Distributed', engine) AS engine,
  if(${IS_DISTRIBUTED}, ${DISTRIBUTED}, engine_full) AS engine_full) FROM system.tables`;

type Shared = Pick<TestCluster, "servers" | "statements" | "tables">;

async function startNode(node: number, shared: Shared): Promise<Server> {
  const server = createServer((request, response) => {
    serve(node, shared, request, response).catch((error: unknown) => response.destroy(error as Error));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function serve(node: number, shared: Shared, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const url = new URL(request.url ?? "/", "http://node");
  const inUrl = url.searchParams.get("query");
  const sql = inUrl ?? body.toString();
  shared.statements.push({ node, sql });
  const refused = refusal(sql, url.searchParams.get("database") ?? "default");
  if (refused) {
    response.writeHead(500, { "X-ClickHouse-Exception-Code": "48" });
    response.end(`Code: 48. DB::Exception: ${refused}. (NOT_IMPLEMENTED)`);
    return;
  }
  const onEvery = / ON CLUSTER '/.test(sql) || isOfAllNodes(sql, url.searchParams.get("database") ?? "default");
  const own = shared.servers[node] as TestClickHouse;
  const targets = onEvery ? [...shared.servers.filter((server) => server !== own), own] : [own];
  let answer: Response | undefined;
  for (const { url: address } of targets) {
    if (inUrl !== null) url.searchParams.set("query", onOneServer(sql, node, shared.tables));
    const { authorization = "" } = request.headers;
    answer = await fetch(`${address}${url.pathname}${url.search}`, {
      method: request.method ?? "POST",
      headers: { authorization },
      ...(request.method === "GET" ? {} : { body: inUrl === null ? onOneServer(sql, node, shared.tables) : body }),
    });
    if (!answer.ok) break;
  }
  if (!answer) return;
  const code = answer.headers.get("x-clickhouse-exception-code");
  response.writeHead(answer.status, code === null ? {} : { "X-ClickHouse-Exception-Code": code });
  response.end(Buffer.from(await answer.arrayBuffer()));
}

/** Why a real Distributed table would not do it, or must not be asked to. */
function refusal(sql: string, database: string): string | undefined {
  if (database.endsWith("_local")) return undefined;
  const name = `(?:\`?${database}\`?\\.)?\`?(?:${SHARDED})\`?(?![\\w])`;
  if (new RegExp(`^SYSTEM SYNC REPLICA ${name}`).test(sql)) return `no replicated table: ${sql}`;
  const changes = [
    `^\\s*INSERT INTO ${name}`,
    `^\\s*DELETE FROM ${name}`,
    `^\\s*ALTER TABLE ${name}.*\\b(DELETE|UPDATE|MATERIALIZE|MASK)\\b`,
  ];
  const found = changes.some((change) => new RegExp(change, "is").test(sql));
  return found ? `a Distributed table takes no such statement: ${sql.slice(0, 100)}` : undefined;
}

/** An insert that is not of one shard. */
function isOfAllNodes(sql: string, database: string): boolean {
  const [, owner = database] = /^\s*INSERT INTO (?:`?(\w+)`?\.)?/i.exec(sql) ?? [sql, "_local"];
  return !owner.endsWith("_local");
}

function onOneServer(sql: string, node: number, tables: ReadonlyMap<string, string>): string {
  // Refused, as there, for a table that the node has no replica of.
  const synced = /^SYSTEM SYNC REPLICA `(\w*)`\.`(\w+)` LIGHTWEIGHT$/.exec(sql);
  if (synced) return `SELECT 1 FROM \`${synced[1]}\`.\`${synced[2]}\` LIMIT 0 FORMAT Null`;
  let text = sql
    .replace(/ ON CLUSTER '\w+'/g, "")
    .replace(/\bReplicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?/g, "$1(")
    .replace(/\breplicated_deduplication_window = (\d+)(, replicated_deduplication_window_seconds = \d+)?/g, WINDOW)
    .replace(/\bENGINE = Distributed\([^)]*\)/g, "");
  for (const [name, select] of tables) {
    text = text.replaceAll(`system.${name}`, () => `(${select.replaceAll("{node}", String(node))})`);
  }
  return text;
}

const WINDOW = "non_replicated_deduplication_window = $1";
