import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createOverrides } from "./client-overrides.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("collects each at its interval, and no more when the time is over", () => {
  const collected: string[] = [];
  const overrides = createOverrides((name) => collected.push(name));
  overrides.start({
    seconds: 5,
    intervals: new Map([
      ["cpu", 2],
      ["ram", 3],
    ]),
  });
  vi.advanceTimersByTime(1_999);
  expect(collected).toEqual([]);
  vi.advanceTimersByTime(60_000);
  expect(collected).toEqual(["cpu", "ram", "cpu"]);
  expect(vi.getTimerCount()).toBe(0);
});

it("a later override replaces the one that runs, and stop ends it", () => {
  const collected: string[] = [];
  const overrides = createOverrides((name) => collected.push(name));
  overrides.start({ seconds: 100, intervals: new Map([["cpu", 1]]) });
  vi.advanceTimersByTime(1_500);
  overrides.start({ seconds: 100, intervals: new Map([["ram", 1]]) });
  vi.advanceTimersByTime(1_500);
  overrides.stop();
  vi.advanceTimersByTime(100_000);
  expect(collected).toEqual(["cpu", "ram"]);
});
