// The guard and the grants behind it, against the engine: a secret in a file must not come out, whatever asks for it.
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

const SECRET = "a secret that no answer may contain";
let clickhouse: TestClickHouse;
let path: string;
let outPath: string;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  path = join(clickhouse.dataDir, "secret.csv");
  outPath = join(clickhouse.dataDir, "out.csv");
  await writeFile(path, `${SECRET}\n`);
  await post("CREATE TABLE strings (s String) ENGINE = MergeTree ORDER BY s");
});

afterAll(() => clickhouse[Symbol.asyncDispose]());

async function post(sql: string, parameters: Record<string, string> = {}) {
  const response = await fetch(`${clickhouse.url}/?${new URLSearchParams(parameters)}`, { method: "POST", body: sql });
  return { status: response.status, text: await response.text() };
}

describe("no SQL reads a file", () => {
  const table = (sql: string) => sql.replaceAll("PATH", path).replaceAll("OUT", outPath);
  it.each([
    ["a table function", "SELECT * FROM file('PATH', 'LineAsString')"],
    ["the scalar function", "SELECT file('PATH')"],
    ["a comment in between", "SELECT file/**/('PATH')"],
    ["quotes around the name", "SELECT \"file\"('PATH'), `file`('PATH')"],
    ["an escape in the name", "SELECT \"fi\\x6ce\"('PATH')"],
    ["typographic quotes", "SELECT \u201cfile\u201d('PATH')"],
    ["a higher-order function", "SELECT arrayMap(file, ['PATH'])"],
    ["a path as a table", 'SELECT * FROM "PATH"'],
    ["a path as a string", "SELECT * FROM 'PATH'"],
    [
      "a default in a structure",
      "SELECT * FROM format(JSONEachRow, 'a UInt8, s String DEFAULT file(\\'PATH\\')', '{\"a\":1}')",
    ],
    ["an alias in a structure", "SELECT s FROM values('a UInt8, s String ALIAS file(\\'PATH\\')', (1))"],
    ["an expression in data", "SELECT * FROM format(Values, 's String', '(file(\\'PATH\\'))')"],
    ["an expression in VALUES", "INSERT INTO strings VALUES (file('PATH'))"],
    ["a filter setting", "SELECT 1 SETTINGS additional_result_filter = 'throwIf(file(\\'PATH\\') != \\'\\')'"],
    ["a template", "SELECT 1 SETTINGS format_template_row = 'PATH' FORMAT Template"],
    ["an engine", "CREATE TABLE f (s String) ENGINE = File(LineAsString, 'PATH')"],
    ["a table of a function", "CREATE TABLE f AS file('PATH', 'LineAsString')"],
    ["a view", "CREATE VIEW f AS SELECT * FROM file('PATH', 'LineAsString')"],
    ["EXPLAIN", "EXPLAIN SELECT * FROM file('PATH', 'LineAsString')"],
    ["DESCRIBE", "DESCRIBE file('PATH')"],
    ["INFILE", "INSERT INTO strings FROM INFILE 'PATH' FORMAT LineAsString"],
    [
      "a dictionary",
      "CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(FILE(path 'PATH' format 'CSV')) LAYOUT(FLAT())",
    ],
    ["ATTACH", "ATTACH TABLE f FROM 'PATH' (s String) ENGINE = MergeTree ORDER BY s"],
    ["a database over a directory", "CREATE DATABASE f ENGINE = Filesystem('/')"],
    ["OUTFILE", "SELECT 1 INTO OUTFILE 'OUT'"],
    ["INSERT INTO FUNCTION", "INSERT INTO FUNCTION file('OUT', 'CSV', 's String') SELECT 'x'"],
    ["BACKUP", "BACKUP TABLE strings TO File('OUT')"],
    [
      "a custom disk",
      "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = 'OUT/')",
    ],
  ])("through %s", async (_, sql) => {
    const { status, text } = await post(table(sql));
    expect(status).toBeGreaterThanOrEqual(400);
    // A filter that could run would fail with 395, and tell the file's content by failing.
    expect(text).not.toContain("Code: 395");
    expect(text).not.toContain(SECRET);
    expect((await post("SELECT count() FROM strings")).text).toBe("0\n");
    expect(existsSync(outPath)).toBe(false);
  });

  it.each([
    ["additional_result_filter", "throwIf(file('PATH') != '')"],
    ["format_schema", "PATH"],
    ["dialect", "prql"],
    ["allow_experimental_eval_table_function", "1"],
  ])("through the setting %s", async (name, value) => {
    const { status, text } = await post("SELECT 1", { [name]: table(value) });
    expect([status, text]).toEqual([403, expect.stringContaining("Code: 452")]);
  });

  it("through a bound identifier", async () => {
    const { status, text } = await post(table("SELECT arrayMap({f:Identifier}, ['PATH'])"), { param_f: "file" });
    expect([status, text]).toEqual([403, expect.not.stringContaining(SECRET)]);
  });

  it("through rows that end in SQL", async () => {
    const { status } = await post(
      'INSERT INTO strings FORMAT JSONEachRow\n{"s":"a"}\n\nINSERT INTO strings VALUES (\'b\')',
    );
    expect(status).toBe(400);
    expect((await post("SELECT count() FROM strings")).text).toBe("0\n");
  });
});

describe("no SQL opens a connection", () => {
  it("through table functions, engines or databases", async () => {
    let connections = 0;
    const server = createServer((_, response) => response.end("1\n"));
    server.on("connection", () => connections++);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const port = (server.address() as AddressInfo).port;
    try {
      for (const sql of [
        `SELECT * FROM url('http://127.0.0.1:${port}/', 'CSV')`,
        `SELECT * FROM 'http://127.0.0.1:${port}/x.csv'`,
        `SELECT * FROM remote('127.0.0.1:${port}', system.one)`,
        `SELECT * FROM s3('http://127.0.0.1:${port}/b/k', 'CSV')`,
        `SELECT * FROM mysql('127.0.0.1:${port}', 'd', 't', 'u', 'p')`,
        `CREATE TABLE u (s String) ENGINE = URL('http://127.0.0.1:${port}/', CSV)`,
        `CREATE TABLE u (s String) ENGINE = Distributed('default', 'default', 'strings')`,
        `CREATE DATABASE u ENGINE = MySQL('127.0.0.1:${port}', 'd', 'u', 'p')`,
      ]) {
        expect((await post(sql)).status, sql).toBeGreaterThanOrEqual(400);
      }
      expect(connections).toBe(0);
    } finally {
      server.close();
    }
  });
});

it("what only looks dangerous still works", async () => {
  expect(await post("SELECT 'file(', domain('https://a.example/x') -- url(")).toEqual({
    status: 200,
    text: "file(\ta.example\n",
  });
});
