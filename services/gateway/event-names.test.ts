import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { createEventNames } from "./event-names.ts";

function startNames(maxNames: number) {
  const warnings: { event: string; maxEventNames: number }[] = [];
  const clock = { ms: 0 };
  let over = 0;
  const names = createEventNames({
    maxNames,
    nowMs: () => clock.ms,
    overCap: { inc: () => void over++ },
    logger: { warn: (fields: object) => void warnings.push(fields as (typeof warnings)[number]) },
  });
  return { names, clock, warnings, over: () => over };
}

it("says nothing of names up to the cap, however often they come", () => {
  const { names, warnings, over } = startNames(2);
  for (const name of ["a", "b", "a", "b"]) names.note("k", name);
  expect([warnings, over()]).toEqual([[], 0]);
});

it("counts every event over the cap and warns once a minute", () => {
  const { names, clock, warnings, over } = startNames(2);
  for (const name of ["a", "b", "c", "d", "c", "a"]) names.note("k", name);
  expect([warnings, over()]).toEqual([[{ event: "c", maxEventNames: 2 }], 3]);
  clock.ms = 59_999;
  names.note("k", "e");
  expect(warnings).toHaveLength(1);
  clock.ms = 60_000;
  names.note("k", "x".repeat(200));
  expect(warnings[1]?.event).toBe("x".repeat(100));
  expect(over()).toBe(5);
});

it("has a cap for each key", () => {
  const { names, over } = startNames(1);
  names.note("k1", "a");
  names.note("k2", "b");
  expect(over()).toBe(0);
  names.note("k2", "a");
  expect(over()).toBe(1);
});

it("keeps nothing of the texts that names are cut from", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const [count, bytes] = [500, 64 * 1024];
  const { names } = startNames(count);
  const heapUsed = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heapUsed();
  for (let i = 0; i < count; i++)
    names.note("k", `${`a name of an event ${i}`.padEnd(32)}${"x".repeat(bytes)}`.slice(0, 32));
  expect(heapUsed() - before).toBeLessThan((count * bytes) / 4);
  names.note("k", "the last");
});
