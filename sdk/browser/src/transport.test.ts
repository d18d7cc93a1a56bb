import { expect, it } from "vitest";
import { readRetryAfter } from "./transport.ts";

it.each([
  [null, undefined],
  ["", undefined],
  ["soon", undefined],
  ["0", 0],
  [" 7 ", 7000],
  [new Date(0).toUTCString(), 0],
])("reads Retry-After %j as %j ms", (header, ms) => expect(readRetryAfter(header)).toBe(ms));

it("reads a date as the time until then", () => {
  const ms = readRetryAfter(new Date(Date.now() + 60_000).toUTCString()) ?? 0;
  expect(ms).toBeGreaterThan(55_000);
  expect(ms).toBeLessThanOrEqual(60_000);
});
