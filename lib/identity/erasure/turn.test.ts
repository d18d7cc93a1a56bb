import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../../../test/kit/clickhouse.ts";
import { TurnLostError, takeTurn } from "./turn.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("turns");
  warehouse = clickhouse.warehouse("turns");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
afterEach(() => warehouse.command("TRUNCATE TABLE erasure_turns"));

const at = { onWait: () => {} };

it("is one process's at a time, and everybody's once, however many come at the same moment", async () => {
  let holders = 0;
  const seen: number[] = [];
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      await using _turn = await takeTurn(clickhouse.warehouse("turns"), at);
      seen.push(++holders);
      await pause(30);
      holders--;
    }),
  );
  expect(seen).toEqual([1, 1, 1, 1]);
});

it("is waited for while its holder lives, and not when it died more than a minute ago", async () => {
  const sign = (secondsAgo: number) =>
    warehouse.command(
      "INSERT INTO erasure_turns (turn_id, seen_at, is_over) SELECT {id:UUID}, now64(3) - {ago:UInt32}, 0",
      { params: { id: randomUUID(), ago: secondsAgo } },
    );
  await sign(61);
  await (await takeTurn(warehouse, at))[Symbol.asyncDispose]();
  await sign(50);
  const leaving = new AbortController();
  const onWait = vi.fn(() => leaving.abort(new Error("left")));
  await expect(takeTurn(warehouse, { signal: leaving.signal, onWait })).rejects.toThrow("left");
  expect(onWait).toHaveBeenCalledOnce();
});

it("counts as lost when its holder could give no sign of life for long", async () => {
  await using turn = await takeTurn(warehouse, at);
  await turn.confirm();
  const now = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(now + 41_000);
  await expect(turn.confirm()).rejects.toThrow(TurnLostError);
  clock.mockRestore();
});
