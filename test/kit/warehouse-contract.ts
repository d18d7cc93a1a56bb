// What the consumer relies on in a warehouse, whichever it is: tokens, refusals, and the answers to its questions.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { createRecordScanner } from "#lib/events/record-scanner.ts";
import { createEventRows, EVENT_COLUMNS, type RowOrigin } from "#lib/events/row.ts";
import { type Said, saidIn } from "#lib/events/said.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import { DEAD_LETTER_COLUMNS, deadLetterRow, OUTCOME_COLUMNS, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import { createStoredOffsets } from "#lib/ledger/stored.ts";
import type { InsertOptions, Warehouse } from "#lib/warehouse/warehouse.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { eventRecord, idOf } from "./consumer.ts";

export interface WarehouseUnderTest extends AsyncDisposable {
  /** Migrated and empty; refuses rows of events_raw whose event is "refused". */
  readonly warehouse: Warehouse;
  /** Keeps the token of the insert, and not its rows. The epoch has no other rows in the table. */
  keepTokenOnly(options: InsertOptions, epoch: string): Promise<void>;
}

const TIME_MS = 1_790_000_000_000;
let epochs = 0;

/** Each use is a partition that nobody has written to. */
function freshOrigin(): RowOrigin {
  return { epoch: `contract-${epochs++}`, topic: "millrace.events", partition: 3 };
}

type Fields = Parameters<typeof eventRecord>[0];

function eventInsert(origin: RowOrigin, token: string, from: number, ...fields: Fields[]): InsertOptions {
  const rows = createEventRows(origin);
  const lines = fields.map((one, at) =>
    Buffer.from(rows.row(decodeRecord(eventRecord(one).value), from + at, TIME_MS + from + at)),
  );
  return { table: "events_raw", columns: EVENT_COLUMNS, rows: Buffer.concat(lines), token };
}

function outcomeInsert(origin: RowOrigin, token: string, offset: number, outcome: string, detail: string) {
  const rows = outcomeRow(origin, { offset, appendTimeMs: TIME_MS + offset }, outcome, detail);
  return { table: "log_outcomes", columns: OUTCOME_COLUMNS, rows, token };
}

export function describeWarehouse(name: string, start: () => Promise<WarehouseUnderTest>): void {
  describe(name, () => {
    let subject: WarehouseUnderTest;
    let warehouse: Warehouse;
    beforeAll(async () => {
      subject = await start();
      warehouse = subject.warehouse;
    });
    afterAll(() => subject[Symbol.asyncDispose]());

    const ask = (origin: RowOrigin) => createStoredOffsets(warehouse, origin, EVENTS.table);
    /** Offsets 0 to 99 and what they are; the surplus is rows beyond one an offset. */
    const fates = async (origin: RowOrigin) => {
      const { byOffset, surplus } = await ask(origin).fates(0, 99);
      return { ...Object.fromEntries(byOffset), ...(surplus === 0 ? {} : { surplus }) };
    };

    it("takes an insert once for each token", async () => {
      const origin = freshOrigin();
      for (const token of ["a", "a", "b"]) await warehouse.insert(eventInsert(origin, origin.epoch + token, 0, {}, {}));
      expect(await fates(origin)).toEqual({ 0: "row", 1: "row", surplus: 2 });
    });

    it("goes by the token alone: other rows under a token that is taken are not stored", async () => {
      const origin = freshOrigin();
      await warehouse.insert(eventInsert(origin, origin.epoch, 0, {}));
      await warehouse.insert(eventInsert(origin, origin.epoch, 5, {}, {}));
      expect(await fates(origin)).toEqual({ 0: "row" });
    });

    it("keeps the tokens of each table apart", async () => {
      const origin = freshOrigin();
      await warehouse.insert(eventInsert(origin, origin.epoch, 0, {}));
      await warehouse.insert(outcomeInsert(origin, origin.epoch, 1, "duplicate", "3:0"));
      expect(await fates(origin)).toEqual({ 0: "row", 1: "duplicate" });
    });

    it("swallows a repeated insert whose token was kept without its rows, and takes it under another", async () => {
      const origin = freshOrigin();
      const insertion = eventInsert(origin, origin.epoch, 0, {}, {});
      await subject.keepTokenOnly(insertion, origin.epoch);
      expect(await fates(origin)).toEqual({});
      await warehouse.insert(insertion);
      expect(await fates(origin)).toEqual({});
      await warehouse.insert({ ...insertion, token: `${origin.epoch}:r1` });
      expect(await fates(origin)).toEqual({ 0: "row", 1: "row" });
    });

    it.each<[string, Uint8Array]>([
      ["a row that breaks off", Buffer.from('["0\n')],
      [
        "too many values",
        Buffer.from(`${JSON.stringify(["e", "t", 3, 1, "2026-07-01 12:00:00.000000", "o", "", 1])}\n`),
      ],
      [
        "a text for a number",
        Buffer.from(`${JSON.stringify(["e", "t", 3, "x", "2026-07-01 12:00:00.000000", "o", ""])}\n`),
      ],
    ])("refuses %s, stores nothing and keeps no token", async (what, bad) => {
      const origin = freshOrigin();
      const good = outcomeInsert(origin, `${origin.epoch} ${what}`, 0, "duplicate", "3:0");
      const rows = Buffer.concat([good.rows, bad]);
      await expect(warehouse.insert({ ...good, rows })).rejects.toMatchObject({ kind: "rejected" });
      expect(await fates(origin)).toEqual({});
      await warehouse.insert(good);
      expect(await fates(origin)).toEqual({ 0: "duplicate" });
    });

    it("refuses all rows of an insert for one that a constraint forbids, and keeps no token", async () => {
      const origin = freshOrigin();
      const refused = eventInsert(origin, origin.epoch, 0, {}, { event: "refused" });
      await expect(warehouse.insert(refused)).rejects.toMatchObject({ kind: "rejected", code: 469 });
      expect(await fates(origin)).toEqual({});
      await warehouse.insert(eventInsert(origin, origin.epoch, 0, {}));
      expect(await fates(origin)).toEqual({ 0: "row" });
    });

    it.each([
      ["table", { table: "nowhere" }, 60],
      ["column", { columns: ["nothing"] }, 16],
    ])("calls an unknown %s a transient fault", async (_, change, code) => {
      const insertion = outcomeInsert(freshOrigin(), "unknown", 0, "duplicate", "");
      await expect(warehouse.insert({ ...insertion, ...change })).rejects.toMatchObject({ kind: "transient", code });
    });

    it("rejects with the reason of a signal that has fired", async () => {
      const reason = new Error("the assignment was lost");
      const insertion = eventInsert(freshOrigin(), "signal", 0, {});
      await expect(warehouse.insert({ ...insertion, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    it("knows the progress of a partition", async () => {
      const origin = freshOrigin();
      expect(await ask(origin).progress()).toBeUndefined();
      for (const next of [7, 5]) {
        const row = [origin.epoch, origin.topic, origin.partition, next];
        await warehouse.insert({
          table: "log_progress",
          columns: ["log_epoch", "log_topic", "log_partition", "next_offset"],
          rows: Buffer.from(`${JSON.stringify(row)}\n`),
          token: row.join(),
        });
      }
      expect(await ask(origin).progress()).toBe(7);
      expect(await ask({ ...origin, partition: 4 }).progress()).toBeUndefined();
    });

    it("knows the highest stored offset, be it a row or an outcome", async () => {
      const origin = freshOrigin();
      expect(await ask(origin).head(0)).toBeUndefined();
      await warehouse.insert(eventInsert(origin, origin.epoch, 4, {}, {}));
      expect(await ask(origin).head(0)).toEqual({ offset: 5, appendTimeMs: TIME_MS + 5 });
      await warehouse.insert(outcomeInsert(origin, origin.epoch, 9, "duplicate", "3:4"));
      expect(await ask(origin).head(5)).toEqual({ offset: 9, appendTimeMs: TIME_MS + 9 });
      expect(await ask(origin).head(10)).toBeUndefined();
      expect(await ask({ ...origin, epoch: "other" }).head(0)).toBeUndefined();
    });

    it("knows the fates within a range, both ends included", async () => {
      const origin = freshOrigin();
      await warehouse.insert(eventInsert(origin, origin.epoch, 2, {}, {}, {}));
      await warehouse.insert(outcomeInsert(origin, origin.epoch, 5, "dead_letter", "undecodable"));
      const { byOffset } = await ask(origin).fates(3, 5);
      expect([...byOffset].sort()).toEqual([
        [3, "row"],
        [4, "row"],
        [5, "dead_letter"],
      ]);
    });

    it("knows the dead letters within a range", async () => {
      const origin = freshOrigin();
      for (const offset of [1, 2, 8]) {
        const record = { offset, appendTimeMs: TIME_MS, key: Buffer.from("k"), value: Buffer.from("v") };
        const rows = deadLetterRow(origin, record, "undecodable", "why");
        await warehouse.insert({
          table: "dead_letters",
          columns: DEAD_LETTER_COLUMNS,
          rows,
          token: `${origin.epoch}${offset}`,
        });
      }
      expect([...(await ask(origin).deadLetters(1, 7))].sort()).toEqual([1, 2]);
    });

    it("counts what was refused since the last row", async () => {
      const origin = freshOrigin();
      const outcome = (offset: number, detail: string) =>
        warehouse.insert(outcomeInsert(origin, `${origin.epoch}${offset}`, offset, "dead_letter", detail));
      await outcome(1, "clickhouse_27");
      expect(await ask(origin).refusedBefore(9)).toBe(1);
      await warehouse.insert(eventInsert(origin, origin.epoch, 2, {}));
      expect(await ask(origin).refusedBefore(9)).toBe(0);
      for (const offset of [3, 5]) await outcome(offset, "clickhouse_469");
      await outcome(4, "undecodable");
      expect(await ask(origin).refusedBefore(9)).toBe(2);
      expect(await ask(origin).refusedBefore(5)).toBe(1);
    });

    it("lists the callers' ids of a range, from a time on", async () => {
      const origin = freshOrigin();
      const fields = [{ id: idOf(1) }, {}, { id: idOf(2), apiKey: "key é" }, { id: idOf(3) }];
      await warehouse.insert(eventInsert(origin, origin.epoch, 10, ...fields));
      const list = async (from: number, to: number, since: number) => {
        const lines: string[] = [];
        await ask(origin).callerIds(from, to, since, (uuid, apiKey, offset, appendTimeMs) =>
          lines.push(`${offset} ${formatUuid(new Uint8Array(uuid.buffer))} ${appendTimeMs - TIME_MS} ${apiKey}`),
        );
        return lines;
      };
      const [one, two, three] = [`10 ${idOf(1)} 10 `, `12 ${idOf(2)} 12 key é`, `13 ${idOf(3)} 13 `];
      expect(await list(0, 13, 0)).toEqual([one, two]);
      expect(await list(0, 99, TIME_MS + 12)).toEqual([two, three]);
      expect(await list(0, 10, 0)).toEqual([]);
    });

    it("knows of no identity where nobody said anything", async () => {
      const origin = freshOrigin();
      await warehouse.insert(eventInsert(origin, origin.epoch, 0, {}));
      const store = createIdentityStore(warehouse);
      expect(await store.progress(origin)).toBe(0);
      expect(await store.logged(origin, 0, 10)).toEqual([]);
      expect(await store.epochs(origin)).toEqual([]);
    });

    it("says what the rows at some offsets say, down to the text of the properties", async () => {
      const origin = freshOrigin();
      const times = { timeUs: 1_790_000_000_123_456, receivedUs: 1_790_000_000_999_001 };
      const fields: Fields[] = [
        { ...times, event: 'a"b\n', distinctId: "é", value: 0.1, propertiesJson: '{ "a":1.10, "b":["\\u00e9"]}' },
        { ...times, source: "s", originalTime: "yesterday", value: -1e300 },
        {},
      ];
      await warehouse.insert(eventInsert(origin, origin.epoch, 4, ...fields));
      const said = await ask(origin).said(origin, [3, 4, 5]);
      const scanner = createRecordScanner();
      const sent = fields.slice(0, 2).map((one, at): [number, Said] => {
        scanner.scan(eventRecord(one).value);
        return [4 + at, saidIn(scanner)];
      });
      expect(new Map([...said].sort(([a], [b]) => a - b))).toEqual(new Map(sent));
      expect(await ask(origin).said({ ...origin, epoch: "other" }, [4])).toEqual(new Map());
    });

    it("finds the rows of an id in every epoch and partition of the topic", async () => {
      const [one, two] = [freshOrigin(), { ...freshOrigin(), partition: 8 }];
      const id = idOf(77_000 + epochs);
      await warehouse.insert(eventInsert(one, one.epoch, 1, { id }));
      await warehouse.insert(eventInsert(two, two.epoch, 2, { id }));
      const found = [...(await ask(one).positionsOf([id, idOf(76_999)])).values()];
      expect(found).toHaveLength(1);
      expect(new Set(found[0])).toEqual(
        new Set([
          { epoch: one.epoch, partition: 3, offset: 1 },
          { epoch: two.epoch, partition: 8, offset: 2 },
        ]),
      );
    });
  });
}
