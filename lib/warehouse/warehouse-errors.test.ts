import { expect, it } from "vitest";
import { classify, isBackPressure, remedyOf } from "./warehouse-errors.ts";

it.each([
  [
    "too many parts",
    252,
    "Too many parts (3000). Merges are processing significantly slower than inserts",
    "transient",
  ],
  [
    "one insert over many partitions",
    252,
    "Too many partitions for single INSERT block (more than 100)",
    "too_many_partitions",
  ],
  ["an invalid number", 72, "Cannot read floating point value here", "rejected"],
  ["a broken row", 27, "Cannot parse input", "rejected"],
  ["a missing table", 60, "Table m.t does not exist", "transient"],
  ["a missing column", 16, "No such column", "transient"],
  ["a wrong password", 516, "Authentication failed", "transient"],
  ["memory", 241, "Memory limit exceeded", "transient"],
  ["a full disk", 243, "Cannot reserve 1.00 MiB, not enough space", "transient"],
  ["a syntax error, which cannot come from rows", 62, "Syntax error", "transient"],
  [
    "a view, with the rows in the table",
    6,
    "Cannot parse string 'xa' as UInt32: syntax error: while pushing to view m.broken (0192f0c1-2345). ",
    "transient",
  ],
  ["a row that names a view", 27, "Cannot parse input: expected '}' before: ': while pushing to view v': ", "rejected"],
  ["a code nobody knows", 99_999, "?", "transient"],
] as const)("an insert that failed for %s is %s: %s", (_, code, message, kind) => {
  expect(classify("insert", code, message)).toBe(kind);
});

it("a query that cannot be read is rejected, so that nobody repeats it", () => {
  expect(classify("query", 62, "Syntax error")).toBe("rejected");
});

it.each([
  [60, "Table m.events_raw does not exist", "millrace migrate"],
  [516, "Authentication failed", "CLICKHOUSE_PASSWORD"],
  [6, "Cannot parse string: while pushing to view m.broken. ", "materialized view"],
])("code %i (%s) has a remedy: %s", (code, message, remedy) => {
  expect(remedyOf(code, message)).toContain(remedy);
});

it("what may pass by itself has no remedy, and only a working ClickHouse gives back-pressure", () => {
  expect(remedyOf(252, "Too many parts")).toBeUndefined();
  expect(remedyOf(undefined, "ECONNREFUSED")).toBeUndefined();
  expect([252, 202, 241, 439].every(isBackPressure)).toBe(true);
  expect([60, 516, 210, undefined].some(isBackPressure)).toBe(false);
});
