import { expect, it } from "vitest";
import { classify } from "./warehouse-errors.ts";

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
  ["a number that is none", 72, "Cannot read floating point value here", "rejected"],
  ["a broken row", 27, "Cannot parse input", "rejected"],
  ["a missing table", 60, "Table m.t does not exist", "transient"],
  ["a missing column", 16, "No such column", "transient"],
  ["a wrong password", 516, "Authentication failed", "transient"],
  ["memory", 241, "Memory limit exceeded", "transient"],
  ["a full disk", 243, "Cannot reserve 1.00 MiB, not enough space", "transient"],
  ["a syntax error, which cannot come from rows", 62, "Syntax error", "transient"],
  ["a code nobody knows", 99_999, "?", "transient"],
] as const)("an insert that failed for %s is %s: %s", (_, code, message, kind) => {
  expect(classify("insert", code, message)).toBe(kind);
});

it("a query that cannot be read is rejected, so that nobody repeats it", () => {
  expect(classify("query", 62, "Syntax error")).toBe("rejected");
});
