import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, expect, it } from "vitest";
import type { Clock } from "#lib/process/clock.ts";
import { type InsertOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type Breaker, BreakerOpenError, createBreaker } from "./breaker.ts";
import { createConsumerMetrics } from "./metrics.ts";

const NEVER = new AbortController().signal;
const insertion: InsertOptions = { table: "t", columns: [], rows: new Uint8Array(0), token: "" };
const away = () => new WarehouseError("ClickHouse insert failed (ECONNREFUSED)", "transient");
const code = (n: number, kind: "transient" | "rejected" = "transient") =>
  new WarehouseError(`ClickHouse refused the insert with code ${n}`, kind, n);

const breakers: Breaker[] = [];
afterEach(() => {
  for (const breaker of breakers.splice(0)) breaker[Symbol.dispose]();
});

/** A breaker before a ClickHouse that does what `act` says. */
function breakerOn() {
  const state = { fault: undefined as Error | undefined, pingFault: undefined as Error | undefined };
  const seen = { inserts: 0, pings: 0, pingsAt: [] as number[] };
  let skippedMs = 0;
  const clock: Clock = { nowMs: () => 0, monotonicMs: () => performance.now() + skippedMs };
  const inner: Warehouse = {
    database: "d",
    async query() {
      if (state.fault) throw state.fault;
      return [];
    },
    async readBinary() {
      if (state.fault) throw state.fault;
    },
    async command() {},
    async insert() {
      seen.inserts++;
      if (state.fault) throw state.fault;
    },
    async ping() {
      seen.pings++;
      seen.pingsAt.push(performance.now());
      if (state.pingFault) throw state.pingFault;
    },
    async [Symbol.asyncDispose]() {},
  };
  const lines: { level: number; msg: string; remedy?: string }[] = [];
  const logger = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const registry = new Registry();
  const breaker = createBreaker({ warehouse: inner, metrics: createConsumerMetrics(registry), clock, logger });
  breakers.push(breaker);
  const insert = () => breaker.warehouse.insert(insertion);
  return {
    ...{ breaker, state, seen, lines, insert },
    skip: (ms: number) => {
      skippedMs += ms;
    },
    fail: async (times: number, error: Error) => {
      state.fault = error;
      for (let i = 0; i < times; i++) await insert().catch(() => {});
    },
    metric: async (name: string) => (await registry.getSingleMetric(name)?.get())?.values[0]?.value,
    opened: async () => {
      const error = await insert().catch((reason: unknown) => reason);
      return error instanceof BreakerOpenError ? error : undefined;
    },
  };
}

it("opens at the third failure in a row, and sends nothing then", async () => {
  const { breaker, seen, state, fail, opened, metric } = breakerOn();
  state.pingFault = away();
  await fail(2, away());
  expect(await metric("millrace_clickhouse_breaker_state")).toBe(0);
  await expect(breaker.check(NEVER)).rejects.toBe(state.pingFault);
  await fail(1, away());
  expect(await metric("millrace_clickhouse_breaker_state")).toBe(2);
  expect(await metric("millrace_clickhouse_breaker_opened_total")).toBe(1);
  expect(await opened()).toBeDefined();
  await expect(breaker.warehouse.query("SELECT 1")).rejects.toBeInstanceOf(BreakerOpenError);
  expect(seen.inserts).toBe(3);
  await expect(breaker.check(NEVER)).rejects.toThrow(/since 1970-01-01T00:00:00.000Z .*ECONNREFUSED/);
});

it("a success in between begins the count anew", async () => {
  const { state, fail, insert, opened } = breakerOn();
  await fail(2, away());
  state.fault = undefined;
  await insert();
  await fail(2, away());
  state.fault = undefined;
  expect(await opened()).toBeUndefined();
});

it("probes with growing pauses, however many wait, and lets exactly one call through when a probe is answered", async () => {
  const { state, seen, fail, insert, opened, metric, breaker } = breakerOn();
  state.pingFault = away();
  await fail(3, away());
  const gate = Promise.withResolvers<void>();
  let isOver = false;
  const woken: number[] = [];
  for (let n = 0; n < 10; n++) {
    const error = (await opened()) as BreakerOpenError;
    void error.passage(NEVER).then(async () => {
      woken.push(n);
      if (!isOver) await gate.promise;
    });
  }
  await expect.poll(() => seen.pings, { timeout: 5000 }).toBe(4);
  const pauses = seen.pingsAt.slice(1).map((at, i) => at - (seen.pingsAt[i] as number));
  // Half to whole of 500, 1000 and 2000 ms, and the timer's own lateness.
  for (const [i, most] of [500, 1000, 2000].entries()) {
    expect(pauses[i]).toBeGreaterThan(most / 2 - 5);
    expect(pauses[i]).toBeLessThan(most + 250);
  }
  expect(seen.inserts).toBe(3);
  state.pingFault = undefined;
  await expect.poll(() => metric("millrace_clickhouse_breaker_state"), { timeout: 5000 }).toBe(1);
  expect(woken).toEqual([0]);
  await expect(breaker.check(NEVER)).rejects.toThrow("cannot be used since");
  const trial = insert();
  expect(await opened(), "a second call while the first is out").toBeDefined();
  await trial.catch(() => {});
  await expect.poll(() => metric("millrace_clickhouse_breaker_state")).toBe(2);
  state.fault = undefined;
  isOver = true;
  await expect.poll(() => metric("millrace_clickhouse_breaker_state"), { timeout: 5000 }).toBe(1);
  await insert();
  expect(await metric("millrace_clickhouse_breaker_state")).toBe(0);
  await breaker.check(NEVER);
  await expect.poll(() => woken.length).toBe(10);
  gate.resolve();
});

it("one that waits and is lost leaves, and with nobody waiting a probe's answer is enough", async () => {
  const { state, fail, opened, metric } = breakerOn();
  state.pingFault = away();
  await fail(3, away());
  const leaving = new AbortController();
  const waiting = ((await opened()) as BreakerOpenError).passage(leaving.signal);
  leaving.abort(new Error("lost"));
  await expect(waiting).rejects.toThrow("lost");
  state.pingFault = undefined;
  await expect.poll(() => metric("millrace_clickhouse_breaker_state"), { timeout: 5000 }).toBe(0);
});

it("a trial that was let go for the loss of its partition passes its turn on", async () => {
  const { state, fail, opened, metric, insert } = breakerOn();
  await fail(3, away());
  const woken: number[] = [];
  for (let n = 0; n < 3; n++) {
    void ((await opened()) as BreakerOpenError).passage(NEVER).then(() => void woken.push(n));
  }
  await expect.poll(() => metric("millrace_clickhouse_breaker_state"), { timeout: 5000 }).toBe(1);
  state.fault = new Error("the partition was lost");
  await insert().catch(() => {});
  expect(await metric("millrace_clickhouse_breaker_state")).toBe(1);
  await expect.poll(() => woken.length).toBe(2);
});

it.each([
  ["too many parts", code(252)],
  ["memory", code(241)],
  ["too many queries", code(202)],
  ["a row that is refused", code(27, "rejected")],
  ["too many partitions in one insert", new WarehouseError("split it", "too_many_partitions", 252)],
])("never opens for %s: ClickHouse has answered", async (_, error) => {
  const { breaker, fail } = breakerOn();
  await fail(50, error);
  await breaker.check(NEVER);
});

it("says that it is not ready after a minute of nothing but back-pressure", async () => {
  const { breaker, state, fail, insert, skip } = breakerOn();
  await fail(1, code(252));
  skip(59_000);
  await fail(1, code(252));
  await breaker.check(NEVER);
  skip(2000);
  await fail(1, code(252));
  await expect(breaker.check(NEVER)).rejects.toThrow(/taken nothing for 61 s.*code 252/);
  state.fault = undefined;
  await insert();
  await breaker.check(NEVER);
});

it.each([
  [60, "millrace migrate"],
  [16, "millrace migrate"],
  [516, "CLICKHOUSE_PASSWORD"],
  [497, "INSERT"],
  [164, "read-only"],
])("names the remedy for code %i, loudly, and once", async (n, remedy) => {
  const { breaker, state, lines, fail } = breakerOn();
  state.pingFault = away();
  await fail(10, code(n));
  await expect(breaker.check(NEVER)).rejects.toThrow(remedy);
  const loud = lines.filter(({ msg }) => msg === "ClickHouse cannot be used, partitions wait");
  expect(loud.filter(({ level }) => level === 50)).toHaveLength(1);
  expect(loud[0]?.remedy).toContain(remedy);
});

it("a question that ClickHouse refuses to answer is a fault of the tables", async () => {
  const { breaker, state, opened } = breakerOn();
  state.fault = code(43, "rejected");
  for (let i = 0; i < 3; i++) await breaker.warehouse.query("SELECT").catch(() => {});
  expect(await opened()).toBeDefined();
});
