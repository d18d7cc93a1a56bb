import { expect, it } from "vitest";
import { createIdLookup } from "./id-lookup.ts";
import { type Warehouse, WarehouseError } from "./warehouse.ts";

const TABLE = { name: "events_raw", apiKey: "api_key", hasIdProjection: true };

/** Answers at most `idsMax` ids in time. */
function slowStore(idsMax: number, fault: () => Error) {
  const asked: number[] = [];
  const warehouse = {
    async query(_sql: string, { params: { uuids } }: { params: { uuids: string[] } }) {
      asked.push(uuids.length);
      if (uuids.length > idsMax) throw fault();
      return uuids.map((uuid) => ({ u: [uuid], k: "", e: "e", p: 0, o: "1" }));
    },
  } as unknown as Warehouse;
  return { asked, lookUp: createIdLookup(warehouse, TABLE) };
}

const ids = (count: number) => Array.from({ length: count }, (_, n) => `${n}`);
const tooSlow = () => new WarehouseError("ClickHouse refused the query with code 159", "transient", 159);
const noAnswer = () => new WarehouseError("did not finish", "transient", undefined, { isTimeout: true });

it.each([
  ["that ClickHouse ends", tooSlow],
  ["without an answer in time", noAnswer],
])("a lookup %s is asked in smaller pieces, and every id is found", async (_, fault) => {
  const { asked, lookUp } = slowStore(100, fault);
  const found = await lookUp(ids(2500));
  expect(found.map(({ uuid }) => uuid)).toEqual(ids(2500));
  expect(asked.length).toBeLessThan(100);
});

it("what was learned is kept for the next question", async () => {
  const { asked, lookUp } = slowStore(1, tooSlow);
  await lookUp(ids(4));
  const before = asked.length;
  await lookUp(ids(4));
  expect(asked.slice(before)).toEqual([1, 1, 1, 1]);
});

it("a fault that is not one of size is the caller's to wait for", async () => {
  const { asked, lookUp } = slowStore(0, () => new WarehouseError("away", "transient"));
  await expect(lookUp(ids(10))).rejects.toThrow("away");
  expect(asked).toEqual([10]);
});

it("of an id that ClickHouse cannot look up in time, the fault is the caller's as well", async () => {
  const { asked, lookUp } = slowStore(0, tooSlow);
  await expect(lookUp(ids(4))).rejects.toThrow("159");
  expect(asked).toEqual([4, 2, 1]);
});

it("of two ids with one hash, both may be the row's", async () => {
  const warehouse = { query: async () => [{ u: ["a", "b"], k: "k", e: "e", p: "3", o: "7" }] } as unknown as Warehouse;
  const found = await createIdLookup(warehouse, TABLE)(["a", "b"]);
  expect(found).toEqual(["a", "b"].map((uuid) => ({ uuid, apiKey: "k", epoch: "e", partition: 3, offset: 7 })));
});
