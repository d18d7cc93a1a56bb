import { describe, expect, it } from "vitest";
import { SqlSyntaxError, scanSql, splitStatements } from "./sql.ts";

const texts = (sql: string) => [...scanSql(sql)].map(({ kind, text }) => (kind === "string" ? "'…'" : text));

describe("splitStatements", () => {
  it.each<[string, string, string[]]>([
    ["a semicolon in a string", "SELECT 'a;b'; SELECT 2", ["SELECT 'a;b'", "SELECT 2"]],
    ["a semicolon in a comment", "SELECT 1 -- a;b\n; SELECT 2", ["SELECT 1 -- a;b", "SELECT 2"]],
    ["a semicolon in a block comment", "SELECT /* ; */ 1;", ["SELECT /* ; */ 1"]],
    ["a semicolon in a quoted name", "SELECT 1 AS `a;b`; SELECT 2", ["SELECT 1 AS `a;b`", "SELECT 2"]],
    ["a semicolon in a here-document", "SELECT $x$;$x$; SELECT 2", ["SELECT $x$;$x$", "SELECT 2"]],
    ["an escaped quote", "SELECT 'a\\';b', 'c'';d'; SELECT 2", ["SELECT 'a\\';b', 'c'';d'", "SELECT 2"]],
  ])("does not split at %s", (_, script, statements) => {
    expect(splitStatements(script)).toEqual(statements);
  });

  it("leaves out what is only comments and empty statements", () => {
    expect(splitStatements("-- only a comment\n;;\n /* and another */")).toEqual([]);
  });
});

describe("scanSql", () => {
  it.each([
    ["escapes in a quoted name", '"fi\\x6ce"', ["file"]],
    ["typographic quotes around a name", "\u201cfile\u201d", ["file"]],
    ["typographic quotes around text", "\u2018file(\u2019", ["'…'"]],
    ["a doubled quote", "`a``b`", ["a`b"]],
    ["all kinds of comments", "1 -- x\n2 # x\n3 #! x\n4 // x\n5 /* x */ 6", ["1", "2", "3", "4", "5", "6"]],
    ["a dollar sign that opens nothing", "a$b $c", ["a$b", "$c"]],
  ])("reads %s as the engine does", (_, sql, expected) => {
    expect(texts(sql)).toEqual(expected);
  });

  it.each([
    ["an open string", "SELECT 'a"],
    ["an open comment", "SELECT /* a"],
    ["a minus sign that is not ASCII", "SELECT 1 \u2212 1"],
    ["a NUL character", "SELECT 1\0"],
  ])("refuses %s", (_, sql) => {
    expect(() => texts(sql)).toThrow(SqlSyntaxError);
  });
});
