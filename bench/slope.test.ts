import { expect, it } from "vitest";
import { growthOf } from "./slope.ts";

const samples = (count: number, value: (n: number) => number) =>
  Array.from({ length: count }, (_, n) => ({ at: n * 10, value: value(n) }));

it("sees a leak through noise, and none in noise or in a start", () => {
  const noise = (n: number) => ((n * 7919) % 13) - 6;
  expect(growthOf(samples(60, (n) => 200 + noise(n)))).toBeCloseTo(0, 1);
  expect(growthOf(samples(60, (n) => 200 + n + noise(n)))).toBeGreaterThan(0.12);
  expect(growthOf(samples(60, (n) => (n < 15 ? 100 + 5 * n : 180)))).toBeCloseTo(0, 2);
  expect(growthOf(samples(60, () => 0))).toBe(0);
  expect(growthOf(samples(2, (n) => n))).toBeNaN();
});
