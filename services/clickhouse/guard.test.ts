import { describe, expect, it } from "vitest";
import { excessGrowth, HOSTILE_SHAPES } from "../../test/kit/growth.ts";
import { assertAllowed } from "./guard.ts";
import { readStatement } from "./statement.ts";

const check = async (sql: string, params: [string, string][] = []) =>
  assertAllowed(await readStatement(Buffer.from(sql)), new Map(params));

describe("the guard refuses", () => {
  it.each([
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM FILE('/etc/passwd')",
    "SELECT * FROM file/* x */('/etc/passwd')",
    "SELECT * FROM file -- x\n ('/etc/passwd')",
    "SELECT * FROM `file`('/etc/passwd')",
    "SELECT \"file\" ('/etc/passwd')",
    "SELECT \u201cfile\u201d('/etc/passwd')",
    "SELECT \"fi\\x6ce\"('/etc/passwd')",
    "SELECT file('/etc/passwd')",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "SELECT * APPLY file FROM (SELECT '/etc/passwd')",
    "SELECT 1 WHERE 'a' IN (SELECT * FROM (SELECT * FROM url('http://x/')))",
    "EXPLAIN SELECT * FROM s3('http://x/')",
    "DESCRIBE TABLE remoteSecure('h', system.one)",
    "WITH x AS (SELECT * FROM remote('h', system.one)) SELECT * FROM x",
    "CREATE TABLE t AS file('/etc/passwd')",
    "CREATE TABLE t (a String) ENGINE = URL('http://x/', CSV)",
    "CREATE TABLE t (a String) ENGINE=File(CSV, '/etc/passwd')",
    "CREATE TABLE t (a String) engine `Kafka`('h', 't', 'g', 'CSV')",
    "CREATE DATABASE d ENGINE = MySQL('h', 'd', 'u', 'p')",
    "CREATE VIEW v AS SELECT * FROM file('/etc/passwd')",
    "CREATE OR REPLACE DICTIONARY d (a UInt8) PRIMARY KEY a SOURCE(CLICKHOUSE()) LAYOUT(FLAT())",
    "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '/')",
    "INSERT INTO FUNCTION file('/tmp/x') SELECT 1",
    "INSERT INTO TABLE FUNCTION url('http://x/') VALUES (1)",
    "INSERT INTO t VALUES (file('/etc/passwd'))",
    "INSERT INTO t FROM INFILE '/etc/passwd'",
    "SELECT 1 INTO /* x */ OUTFILE '/tmp/x'",
    "ATTACH TABLE t FROM '/var' (a Int8) ENGINE = MergeTree ORDER BY a",
    "BACKUP TABLE t TO File('/tmp/x')",
    "RESTORE TABLE t FROM File('/tmp/x')",
    "SYSTEM SHUTDOWN",
    "CREATE USER u",
    "CREATE FUNCTION f AS (x) -> x",
    "GRANT ALL ON *.* TO default",
    "CREATE TABLE t (query String) ENGINE QueryRunner",
    "CREATE TABLE t (query String) ORDER BY query ENGINE QueryRunner",
    "CREATE TABLE t (query String) ENGINE /* = */ `QueryRunner`",
    "CREATE TABLE t (query String) ENGINE = QueryRunner",
    "CREATE TABLE t ENGINE Alias('d', 't')",
    "CREATE TABLE t (a String) ENGINE Executable('x.sh', TSV)",
    "CREATE TABLE t (a String) ENGINE ExecutablePool('x.sh', TSV)",
    "CREATE TABLE t (k String) ENGINE EmbeddedRocksDB(0, '/tmp/x') PRIMARY KEY k",
    "CREATE TABLE t (a String) ENGINE FuzzJSON('{}')",
    "CREATE TABLE t ENGINE TimeSeries",
    "CREATE TABLE t (a String) ENGINE NoSuchEngineYet",
    "CREATE TABLE t (a String) ENGINE Memory ENGINE QueryRunner",
    "CREATE TABLE t (a String) ENGINE = {e:Identifier}",
    "CREATE TEMPORARY TABLE t (a String) ENGINE QueryRunner",
    "CREATE OR REPLACE TABLE t (a String) ENGINE QueryRunner",
    "CREATE MATERIALIZED VIEW v ENGINE QueryRunner AS SELECT '' AS query",
    "CREATE DATABASE d ENGINE Filesystem('/')",
    "CREATE DATABASE d ENGINE S3('http://127.0.0.1/')",
    "CREATE DATABASE d ENGINE MergeTree",
    "CREATE TABLE t (a Int8) ENGINE MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://x/')",
    "ALTER TABLE t MODIFY SETTING disk = disk(type = local_blob_storage, path = '/tmp')",
    "DROP TABLE IF EXISTS t PARALLEL WITH CREATE TABLE u (query String) ENGINE QueryRunner",
    "WITH 1 AS x INSERT INTO t SELECT x PARALLEL WITH CREATE TABLE u (query String) ENGINE = QueryRunner",
    "ATTACH MATERIALIZED VIEW v UUID '26bdd0f2-5264-42e2-a1a0-a95a7d25228c' REFRESH EVERY 1 SECOND TO t AS SELECT 1",
    "ATTACH TABLE t (a Int8)",
    "ATTACH DATABASE d ENGINE = Atomic",
    "ATTACH DICTIONARY d",
    "CREATE WINDOW VIEW v AS SELECT 1",
    "CREATE NAMED COLLECTION c AS a = 1",
    "CREATE WORKLOAD w",
    "CREATE RESOURCE r (READ ANY DISK)",
    "CREATE SOMETHING NEW",
    "ALTER USER default",
  ])("%s", async (sql) => {
    await expect(check(sql)).rejects.toThrow(/^Code: 497\. .*(refuses)/);
  });

  it.each([
    ["SELECT arrayMap({f:Identifier}, ['/etc/passwd'])", "file"],
    ["SELECT arrayMap({ f : identifier }, ['/etc/passwd'])", "`FILE`"],
    ["SELECT {s:String}, arrayMap({f:Identifier}, ['/etc/passwd'])", "fi\\x6ce"],
  ])("the name file in a bound identifier: %s", async (sql, f) => {
    await expect(check(sql, [["f", f]])).rejects.toThrow("Code: 497");
  });

  it.each(["SELECT 1; SELECT 2", "SELECT 'a", "REPLACE TABLE t (a String) ENGINE QueryRunner", "PARALLEL"])(
    "what is no single statement: %s",
    async (sql) => {
      await expect(check(sql)).rejects.toThrow("Code: 62");
    },
  );
});

describe("the guard allows", () => {
  it.each([
    "SELECT 'file('",
    "SELECT 1 -- file('/etc/passwd')",
    "SELECT count() FROM file",
    "SELECT t.file FROM t",
    "SELECT 1 AS file",
    "SELECT domain(url), url FROM hits",
    "INSERT INTO url (a, b) VALUES (1, 'x')",
    "CREATE TABLE url (engine String, role String) ENGINE = MergeTree ORDER BY engine",
    "CREATE MATERIALIZED VIEW v ENGINE = SummingMergeTree ORDER BY a AS SELECT a FROM t",
    "ALTER TABLE t ADD COLUMN user String",
    "CREATE TABLE t (a Int8, engine Enum8('QueryRunner' = 1)) ENGINE MergeTree ORDER BY a",
    "CREATE TABLE t ENGINE = Memory AS SELECT name, engine FROM system.tables ORDER BY engine DESC",
    "CREATE VIEW v AS SELECT engine FROM t GROUP BY engine HAVING engine IN ('QueryRunner')",
    "CREATE TABLE t AS u ENGINE Null",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "CREATE MATERIALIZED VIEW v REFRESH EVERY 1 HOUR APPEND TO t AS SELECT 1",
    "CREATE DATABASE d ENGINE = Atomic",
    "CREATE UNIQUE INDEX i ON t (a) TYPE minmax",
    "ALTER TABLE t ADD COLUMN engine String",
    "ALTER TABLE t ATTACH PARTITION 1",
    "ATTACH TABLE IF NOT EXISTS d.t",
    "SELECT count() FROM t GROUP BY parallel WITH TOTALS",
    "SELECT 1;",
    "SELECT $$ file( $$",
  ])("%s", async (sql) => {
    await check(sql);
  });
});

it("USE is refused with what to do instead", async () => {
  await expect(check("USE millrace")).rejects.toThrow(/^Code: 48\. .*Send database=NAME/);
});

it.each([
  "String",
  "Nullable(String)",
  "Array(String)",
  "Map(String, String)",
  "LowCardinality(String)",
  "FixedString(4)",
])("a value of type %s is never judged", async (type) => {
  await check(`SELECT {v:${type}}, {t:Identifier} FROM t`, [
    ["v", "file"],
    ["t", "name"],
    ["unused", "file"],
  ]);
});

/** Statements of about a given length that a reader of SQL could fall over. */
const SHAPES: Record<string, (length: number) => string> = {
  ...HOSTILE_SHAPES,
  "dollar signs with digits": (n) => `SELECT ${Array.from({ length: n / 8 }, (_, at) => `$${at}`).join(" ")}`,
  "here-documents": (n) => `SELECT ${"$a$ $a$ ".repeat(n / 8)}`,
  "FORMAT within parentheses": (n) => `INSERT INTO t SELECT (${"FORMAT x ".repeat(n / 9)})`,
  "FORMAT without rows": (n) => `SELECT ${"FORMAT x y ".repeat(n / 11)}`,
  engines: (n) => `CREATE TABLE t (a Int8) ${"ENGINE Memory ".repeat(n / 14)}`,
  "one long name": (n) => `SELECT ${"cluster".repeat(n / 7)}(1)`,
  "names in quotes": (n) => `SELECT ${'"a\\x41""b", '.repeat(n / 13)} 1`,
  "comments and line ends": (n) => `SELECT ${"/* */ -- x\n".repeat(n / 11)} 1`,
};

it.each(Object.entries(SHAPES))("reading and judging costs time in proportion to the text: %s", async (_, shape) => {
  const run = (text: string) => check(text).catch(() => undefined);
  for (const text of [shape, (length: number) => `SELECT ${shape(length)}`]) {
    // Turns with others make the time of a busy machine uneven; what is quadratic fails each time.
    let excess = await excessGrowth(run, text, 20_000);
    for (let again = 0; again < 3 && excess !== undefined; again++) excess = await excessGrowth(run, text, 20_000);
    expect(excess).toBeUndefined();
  }
});

describe("rows of an INSERT", () => {
  it("are never read as SQL", async () => {
    const statement = await readStatement(
      Buffer.from("INSERT INTO m.t (a, `b`) SETTINGS max_threads = 1 FORMAT CSV\n1,\"file('\n"),
    );
    expect(statement.target).toEqual({
      names: ["m", "t"],
      columns: ["a", "b"],
      settings: " max_threads = 1 ",
      format: "CSV",
    });
    expect(Buffer.from(statement.rows).toString()).toBe("1,\"file('\n");
  });

  it.each([
    ['INSERT INTO `a b`."c" FORMAT CSV\n', { names: ["a b", "c"], format: "CSV" }],
    ["INSERT INTO TABLE t FORMAT Native \n", { names: ["t"], format: "Native" }],
    ["INSERT INTO t (* EXCEPT (a)) FORMAT TSV\n", { names: ["t"], columnsSql: "* EXCEPT (a)", format: "TSV" }],
    ["INSERT INTO t (`a b`, c) FORMAT RowBinary\n", { names: ["t"], columns: ["a b", "c"], format: "RowBinary" }],
  ])("have a target: %s", async (sql, target) => {
    const statement = await readStatement(Buffer.from(`${sql}\n\n;SELECT`));
    expect(statement.target).toEqual(target);
    expect(Buffer.from(statement.rows).toString()).toBe("\n\n;SELECT");
  });

  it.each(["INSERT INTO t SELECT FORMAT x", "INSERT INTO t (a FORMAT CSV\n", "INSERT INTO 1 FORMAT CSV\n1"])(
    "need a table: %s",
    async (sql) => {
      await expect(
        readStatement(Buffer.from(sql)).then(({ target }) => target ?? Promise.reject("none")),
      ).rejects.toBeDefined();
    },
  );
});
