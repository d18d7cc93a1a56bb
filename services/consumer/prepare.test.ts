// Where ranges are cut is a matter of load and chance; what becomes of a record must not be.
import fc from "fast-check";
import { expect, it } from "vitest";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { createIdWindow } from "#lib/ledger/id-window.ts";
import { createStoredOffsets } from "#lib/ledger/stored.ts";
import { STORED_EVENTS } from "#lib/ledger/stored-topics.ts";
import { eventRecord, idOf, poisonRecord } from "../../test/kit/consumer.ts";
import { createMemoryWarehouse } from "../../test/kit/memory-warehouse.ts";
import { createEventPreparer } from "./prepare.ts";

const ORIGIN = { epoch: "e", topic: "millrace.events", partition: 0 };

const records = fc
  .array(
    fc.record({ kind: fc.constantFrom("plain", "own id", "own id", "other name", "poison"), id: fc.nat({ max: 4 }) }),
    { minLength: 1, maxLength: 40 },
  )
  .map((kinds) =>
    kinds.map(({ kind, id }, offset): StoredRecord => {
      const own = { id: idOf(id), timeUs: 1, receivedUs: 1 };
      const event = kind === "other name" ? { ...own, event: "other" } : kind === "own id" ? own : {};
      return { offset, appendTimeMs: 1000 + offset, ...(kind === "poison" ? poisonRecord : eventRecord(event)) };
    }),
  );
const cuts = fc.array(fc.integer({ min: 1, max: 15 }), { minLength: 1, maxLength: 40 });

/** What is stored of the records when they are cut into ranges of these lengths, the last of them again and again. */
async function storedOf(all: readonly StoredRecord[], lengths: readonly number[]) {
  const warehouse = createMemoryWarehouse();
  const window = createIdWindow({ ageMsMax: 60_000, offsetsMax: 20 });
  const preparer = createEventPreparer(ORIGIN, window, createStoredOffsets(warehouse, ORIGIN, STORED_EVENTS.table));
  const decided: { rows: string; outcomes: unknown[] } = { rows: "", outcomes: [] };
  for (let [from, n] = [0, 0]; from < all.length; n++) {
    const range = all.slice(from, from + (lengths[n] ?? (lengths.at(-1) as number)));
    from += range.length;
    const prepared = await preparer.prepare(range);
    const { name: table, columns } = STORED_EVENTS.table;
    await warehouse.insert({ table, columns, rows: prepared.rows, token: `${n}` });
    for (const { id, offset, appendTimeMs } of prepared.ids) window.add(id, offset, appendTimeMs);
    decided.rows += Buffer.from(prepared.rows).toString();
    decided.outcomes.push(...prepared.outcomes);
  }
  return decided;
}

it("decides the same wherever the ranges are cut", async () => {
  await fc.assert(
    fc.asyncProperty(records, cuts, cuts, async (all, some, others) => {
      expect(await storedOf(all, some)).toEqual(await storedOf(all, others));
    }),
    { numRuns: 100 },
  );
});
