import { expect, it } from "vitest";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { createFirstPositions } from "./first-position.ts";
import { createIdWindow } from "./id-window.ts";
import type { StoredOffsets } from "./stored.ts";

const ORIGIN = { epoch: "e", topic: "t", partition: 0 };
const WINDOW = createIdWindow({ ageMsMax: 1, offsetsMax: 1 });

/** Answers at most `idsMax` ids in time. */
function slowStore(idsMax: number, fault: () => Error) {
  const asked: number[] = [];
  const stored = {
    async positionsOf(uuids: readonly string[]) {
      asked.push(uuids.length);
      if (uuids.length > idsMax) throw fault();
      return new Map(uuids.map((uuid) => [uuid, [{ epoch: "e", partition: 0, offset: 1 }]]));
    },
  } as unknown as StoredOffsets;
  return { asked, first: createFirstPositions(ORIGIN, WINDOW, stored) };
}

const ids = (count: number) => new Map(Array.from({ length: count }, (_, n) => [`${n}`, `${n}`]));
const tooSlow = () => new WarehouseError("ClickHouse refused the query with code 159", "transient", 159);
const noAnswer = () => new WarehouseError("did not finish", "transient", undefined, { isTimeout: true });

it.each([
  ["that ClickHouse ends", tooSlow],
  ["without an answer in time", noAnswer],
])("a lookup %s is asked in smaller pieces, and every id is found", async (_, fault) => {
  const { asked, first } = slowStore(100, fault);
  const found = await first.lookUp(ids(2500));
  expect([...found.values()].filter((places) => places.length === 1)).toHaveLength(2500);
  expect(asked.length).toBeLessThan(100);
});

it("what was learned is kept for the next question", async () => {
  const { asked, first } = slowStore(1, tooSlow);
  await first.lookUp(ids(4));
  const before = asked.length;
  await first.lookUp(ids(4));
  expect(asked.slice(before)).toEqual([1, 1, 1, 1]);
});

it("a fault that is not one of size is the caller's to wait for", async () => {
  const { asked, first } = slowStore(0, () => new WarehouseError("away", "transient"));
  await expect(first.lookUp(ids(10))).rejects.toThrow("away");
  expect(asked).toEqual([10]);
});
