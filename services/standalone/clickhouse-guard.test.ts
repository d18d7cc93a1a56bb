import { describe, expect, it } from "vitest";
import { assertAllowed } from "./clickhouse-guard.ts";
import { readStatement } from "./clickhouse-statement.ts";

const check = (sql: string, params: [string, string][] = []) =>
  assertAllowed(readStatement(Buffer.from(sql)), new Map(params));

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
  ])("%s", (sql) => {
    expect(() => check(sql)).toThrow(/^Code: 497\. .*(refuses)/);
  });

  it("the name file in a bound identifier", () => {
    expect(() => check("SELECT arrayMap({f:Identifier}, ['/etc/passwd'])", [["f", "file"]])).toThrow("Code: 497");
  });

  it.each(["SELECT 1; SELECT 2", "SELECT 'a"])("what is no single statement: %s", (sql) => {
    expect(() => check(sql)).toThrow("Code: 62");
  });
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
    "SELECT 1;",
    "SELECT $$ file( $$",
  ])("%s", (sql) => {
    expect(() => check(sql)).not.toThrow();
  });
});

describe("rows of an INSERT", () => {
  it("are never read as SQL", () => {
    const statement = readStatement(
      Buffer.from("INSERT INTO m.t (a, `b`) SETTINGS max_threads = 1 FORMAT CSV\n1,\"file('\n"),
    );
    expect(statement.target).toEqual({
      table: "m.t",
      columns: ["a", "b"],
      settings: " max_threads = 1 ",
      format: "CSV",
    });
    expect(Buffer.from(statement.rows).toString()).toBe("1,\"file('\n");
  });

  it("are refused with an empty line, behind which the engine reads SQL", () => {
    const sql = 'INSERT INTO t FORMAT JSONEachRow\n{"a":1}\n\nINSERT INTO t VALUES (2)';
    expect(() => readStatement(Buffer.from(sql))).toThrow(/empty line/);
  });

  it("are refused in a format that the engine takes no bytes of", () => {
    expect(() => readStatement(Buffer.from("INSERT INTO t FORMAT Native\nxx"))).toThrow(/Code: 73\. .*JSONEachRow/);
  });
});
