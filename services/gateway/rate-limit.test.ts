import { expect, it } from "vitest";
import { createRateLimit } from "./rate-limit.ts";

let now = 0;
const refused: [string, number][] = [];

function limit(eventsPerSecond: number, burst = 0) {
  now = 0;
  refused.length = 0;
  const rateLimit = createRateLimit({
    eventsPerSecond,
    burst,
    onRefused: (dialect, events) => refused.push([dialect, events]),
    nowMs: () => now,
  });
  return (events: number, caller: { key?: string; address?: string } = { key: "k" }) =>
    rateLimit.take({ key: "", address: "a", dialect: "d", ...caller }, events);
}

it("without a rate takes anything", () => {
  const take = limit(0);
  expect([take(1e9), take(1e9), refused]).toEqual([0, 0, []]);
});

it("lets a second's events through at once, then as many as time brings", () => {
  const take = limit(10);
  expect(take(10)).toBe(0);
  expect(take(5)).toBe(1);
  now = 500;
  expect(take(5)).toBe(0);
  expect(take(1)).toBe(1);
  now = 600;
  expect(take(1)).toBe(0);
});

it("is true to the wait it tells, and counts what it refused", () => {
  const take = limit(10, 100);
  take(100);
  const wait = take(45);
  expect([wait, refused]).toEqual([5, [["d", 45]]]);
  now = (wait - 1) * 1000;
  expect(take(45)).toBe(1);
  now = wait * 1000;
  expect(take(45)).toBe(0);
});

it("saves up no more than the burst", () => {
  const take = limit(10, 20);
  now = 3_600_000;
  expect(take(20)).toBe(0);
  expect(take(1)).toBe(1);
});

it("lets a request beyond the burst in when nothing is owed, and has it paid off before the next", () => {
  const take = limit(10, 20);
  expect(take(220)).toBe(0);
  expect(take(1)).toBe(21);
  now = 20_000;
  expect(take(220)).toBe(2);
  now = 22_000;
  expect(take(220)).toBe(0);
});

it("knows callers apart by key, and without one by address, IPv6 by its /64", () => {
  const take = limit(1);
  for (const caller of [{ key: "a" }, { key: "b" }, { address: "a" }, { address: "b" }]) {
    expect([take(1, caller), take(1, caller)]).toEqual([0, 1]);
  }
  expect(take(1, { address: "2001:db8:0:1::1" })).toBe(0);
  expect(take(1, { address: "2001:db8:0:1:ffff::2" })).toBe(1);
  expect(take(1, { address: "2001:db8:0:2::1" })).toBe(0);
});

it("remembers 10,000 addresses, the longest unused forgotten first, and every key", () => {
  const take = limit(1);
  take(1, { key: "k" });
  take(1, { address: "first" });
  for (let i = 1; i < 10_000; i++) take(1, { address: `a${i}` });
  expect(take(1, { address: "first" })).toBe(1);
  take(1, { address: "one more" });
  expect(take(1, { address: "a1" })).toBe(0);
  expect(take(1, { address: "first" })).toBe(1);
  expect(take(1, { key: "k" })).toBe(1);
});
