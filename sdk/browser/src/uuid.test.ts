import { expect, it } from "vitest";
import { timeOf, uuidv7 } from "./uuid.ts";

it("makes ids of version 7 that sort in the order in which they were made, 10,000 in a row", () => {
  const ids = Array.from({ length: 10_000 }, uuidv7);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(ids.toSorted()).toEqual(ids);
  expect(new Set(ids).size).toBe(ids.length);
  expect(Math.abs(timeOf(ids[0] as string) - Date.now())).toBeLessThan(5000);
  expect(timeOf("0192f0c1-2345-7abc-8def-0123456789ab")).toBe(Date.parse("2024-11-03T06:40:42.309Z"));
});
