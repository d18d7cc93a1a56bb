import { expect, it } from "vitest";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { createExamination } from "./probe.ts";

it("ends a check that never answers, and skips what needs it, naming it", async () => {
  const { probe } = createExamination(30);
  const hung = probe("hung", {}, () => new Promise<never>(() => {}));
  const after = probe("after", { hung }, async () => ({ status: "ok", what: "" }));
  expect(await hung.result).toMatchObject({ status: "fail", what: "no answer within 30 ms" });
  expect(await after.result).toEqual({ status: "skip", what: "not checked, because it needs: hung" });
});

it("says what a check's silence means, where that is known", async () => {
  const { probe } = createExamination(10);
  const late = { what: "no row", fix: "start the consumer" };
  const hung = probe("row", {}, () => new Promise<never>(() => {}), late);
  expect(await hung.result).toEqual({ status: "fail", ...late });
});

it("runs independent checks side by side, and hands on what a check found although it failed", async () => {
  const { probe, probes } = createExamination(5_000);
  const both = Promise.withResolvers<void>();
  const first = probe("first", {}, async () => {
    await both.promise;
    return { status: "fail", what: "not ready", value: 7 };
  });
  probe("second", {}, async () => {
    both.resolve();
    return { status: "ok", what: "" };
  });
  const third = probe("third", { first }, async ({ first }) => ({ status: "ok", what: String(first) }));
  expect(await third.result).toMatchObject({ status: "ok", what: "7" });
  expect(probes.map(({ name }) => name)).toEqual(["first", "second", "third"]);
});

it("tells the time budget of a check to its work", async () => {
  const { probe } = createExamination(10);
  const aborted = Promise.withResolvers<void>();
  probe("hung", {}, (_, signal) => {
    signal.addEventListener("abort", () => aborted.resolve());
    return new Promise<never>(() => {});
  });
  await aborted.promise;
});

it.each([
  [
    new LogUnavailableError("Kafka at a:1 could not x: check that it runs", { cause: new Error("ECONNREFUSED") }),
    { what: "Kafka at a:1 could not x (ECONNREFUSED)", fix: "check that it runs" },
  ],
  [
    new WarehouseError("ClickHouse refused the query with code 516", "transient", 516),
    { fix: expect.stringContaining("CLICKHOUSE_PASSWORD") },
  ],
  [new WarehouseError("ClickHouse query failed", "transient"), { fix: expect.stringContaining("CLICKHOUSE_URL") }],
  [new RangeError("odd"), { what: "odd" }],
])("makes a finding of %s", async (error, expected) => {
  const { probe } = createExamination(1_000);
  const failed = probe("failed", {}, () => Promise.reject(error));
  expect(await failed.result).toMatchObject({ status: "fail", ...expected });
});
