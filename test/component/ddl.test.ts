// The migrations as each kind of server is sent them: kept in files beside this one, and read by the engine's own parser.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clusterDialect } from "#lib/warehouse/cluster/ddl.ts";
import { placementOf } from "#lib/warehouse/cluster/placement.ts";
import { CLOUD, type Dialect, SINGLE_SERVER } from "#lib/warehouse/ddl.ts";
import { SCHEMA_MIGRATIONS } from "#lib/warehouse/migrate.ts";
import { splitStatements } from "#lib/warehouse/sql.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

const DIRECTORY = fileURLToPath(new URL("../../migrations", import.meta.url));
const files = readdirSync(DIRECTORY)
  .sort()
  .map((name) => ({ name, text: readFileSync(join(DIRECTORY, name), "utf8") }));
const inDatabase = (sql: string) => sql.replaceAll("{{DATABASE}}", "millrace");
const statements = [SCHEMA_MIGRATIONS, ...files.flatMap(({ text }) => splitStatements(text))].map(inDatabase);
const CLUSTER = clusterDialect("events");
const MODES: { kind: string; dialect: Dialect }[] = [
  { kind: "single", dialect: SINGLE_SERVER },
  { kind: "cluster", dialect: CLUSTER },
  { kind: "cloud", dialect: CLOUD },
];

function rendered(dialect: Dialect): { sql: string; run: string }[] {
  return [
    ...dialect.databases("millrace").map((sql) => ({ sql, run: "once" })),
    ...statements.flatMap((statement) => dialect.render(statement, "millrace")),
  ];
}
const inCluster = (statement: string) => CLUSTER.render(statement, "millrace").map(({ sql }) => sql);

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  warehouse = clickhouse.warehouse("default");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

async function formatted(sql: string): Promise<string> {
  const [row] = await warehouse.query<{ text: string }>("SELECT formatQuery({sql:String}) AS text", {
    params: { sql },
  });
  return row?.text ?? "";
}

describe.each(MODES)("DDL of mode $kind", ({ kind, dialect }) => {
  it("is what was reviewed", async () => {
    const text = rendered(dialect).map(({ sql, run }) => `-- ${run}\n${sql};\n`);
    await expect(text.join("\n")).toMatchFileSnapshot(`../golden/ddl-${kind}.sql`);
  });

  it("is read by the engine, statement by statement", async () => {
    for (const { sql } of rendered(dialect)) expect(await formatted(sql), sql).not.toBe("");
  });
});

it("the engine refuses what is no statement of its own", async () => {
  await expect(formatted("CREATE TABLE a ON CLUSTER (x Int8) ENGINE = MergeTree")).rejects.toMatchObject({ code: 62 });
});

it("for one server every file is sent as it is, but for the database's name", () => {
  for (const { name, text } of files) {
    let rest = inDatabase(text);
    for (const statement of splitStatements(inDatabase(text))) {
      const [only, ...more] = SINGLE_SERVER.render(statement, "millrace");
      expect([only, more], name).toEqual([{ sql: statement, run: "once" }, []]);
      const at = rest.indexOf(only?.sql ?? "");
      expect(rest.slice(0, at).trim(), name).toMatch(/^;?$/);
      rest = rest.slice(at + statement.length);
    }
    expect(rest.trim(), name).toMatch(/^;?\s*(--.*\s*)*$/);
  }
});

describe("in a cluster", () => {
  it("every table is replicated, and every statement but a fill reaches all nodes", () => {
    for (const { sql, run } of rendered(CLUSTER)) {
      if (run === "each shard") expect(sql).toMatch(/INSERT INTO millrace_local\./);
      else expect(sql).toContain("ON CLUSTER 'events'");
      const engine = /^\s*ENGINE = (\w+)/m.exec(sql)?.[1];
      if (engine !== undefined) expect(engine).toMatch(/^(Replicated\w*MergeTree|Distributed)$/);
    }
  });

  it("no window is lost on the way, and a table without one gets none", () => {
    for (const statement of statements.filter((one) => /CREATE TABLE/.test(one))) {
      const window = /non_replicated_deduplication_window = (\d+)/.exec(statement)?.[1];
      expect(inCluster(statement)[0]).toMatch(new RegExp(`[^_]replicated_deduplication_window = ${window ?? "0"}\\b`));
    }
  });

  it("a table that nobody gave a place is refused", () => {
    expect(placementOf("nowhere")).toBeUndefined();
    const statement = "CREATE TABLE millrace.nowhere (x Int8) ENGINE = MergeTree ORDER BY x";
    expect(() => inCluster(statement)).toThrow("lib/warehouse/cluster/placement.ts");
  });

  it("a column is added to the shards' tables first, then to the one that is read; an index to the first alone", () => {
    expect(inCluster("ALTER TABLE millrace.events_raw ADD COLUMN IF NOT EXISTS x Int8")).toEqual([
      "ALTER TABLE millrace_local.events_raw ON CLUSTER 'events' ADD COLUMN IF NOT EXISTS x Int8",
      "ALTER TABLE millrace.events_raw ON CLUSTER 'events' ADD COLUMN IF NOT EXISTS x Int8",
    ]);
    expect(inCluster("ALTER TABLE millrace.points ADD INDEX i time TYPE minmax")).toEqual([
      "ALTER TABLE millrace_local.points ON CLUSTER 'events' ADD INDEX i time TYPE minmax",
    ]);
  });

  it("a fill across places, and a statement without a form, are refused", () => {
    expect(() => inCluster("INSERT INTO millrace.alerts SELECT * FROM millrace.points")).toThrow("not in one place");
    expect(() => inCluster("TRUNCATE TABLE millrace.points")).toThrow("a cluster has no form of");
  });
});

it("migrations are numbered without a gap, but for 0004, which was never used", () => {
  const names = readdirSync(DIRECTORY).filter((name) => name.endsWith(".sql"));
  const numbers = names.map((name) => Number(name.slice(0, 4)));
  const last = Math.max(...numbers);
  const expected = Array.from({ length: last }, (_, index) => index + 1).filter((number) => number !== 4);
  expect(numbers.sort((a, b) => a - b)).toEqual(expected);
});
