// One event sent twice by its client: two offsets, one row. What counts as twice is a function of the log alone.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "#lib/process/clock.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce, type StoredAudit } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, idOf, withAssignments } from "../kit/consumer.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("duplicates");
  warehouse = clickhouse.warehouse("duplicates");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** Rows are doubled by right in these tests: the ids are old, so that they count as two events. */
const apartFromIds = ({ doubledIds, ...audit }: StoredAudit) => audit;
const twoRows = ({ doubledIds, ...expected } = exactlyOnce({ rows: 2 })) => expected;

async function detailsOf(epoch: string): Promise<string[]> {
  const rows = await warehouse.query<{ at: string; outcome: string; detail: string }>(
    `SELECT toString(log_offset) AS at, outcome, detail FROM log_outcomes WHERE log_epoch = {epoch:String} ORDER BY log_offset`,
    { params: { epoch } },
  );
  return rows.map(({ at, outcome, detail }) => `${at} ${outcome} ${detail}`);
}

describe("a caller's id that comes again is a duplicate", () => {
  it("in the same batch, and its outcome names the row", async () => {
    await using stage = await createStage(warehouse, { epoch: "same" });
    await stage.append(eventRecord(), eventRecord({ id: idOf(1) }), eventRecord({ id: idOf(1) }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2, duplicates: 1 }));
    expect(await detailsOf("same")).toEqual(["2 duplicate 0:1"]);
  });

  it("in a later batch", async () => {
    await using stage = await createStage(warehouse, { epoch: "later" });
    const consumer = stage.start();
    for (let n = 0; n < 3; n++) {
      await stage.append(eventRecord({ id: idOf(1) }));
      await stage.drained();
    }
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 2 }));
    expect(await detailsOf("later")).toEqual(["1 duplicate 0:0", "2 duplicate 0:0"]);
    expect(await consumer.registry.getSingleMetricAsString("millrace_outcomes_total")).toContain('"duplicate"} 2');
  });

  it("after a restart, when the window is rebuilt from ClickHouse", async () => {
    await using stage = await createStage(warehouse, { epoch: "restart" });
    await stage.append(eventRecord({ id: idOf(1), apiKey: "key é" }));
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    await stage.append(eventRecord({ id: idOf(1), apiKey: "key é" }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 1 }));
  });
});

describe("another event under the id of a row is a conflict, and no row", () => {
  const timeUs = 1_790_000_000_000_000;
  const first = { id: idOf(7), value: 1, timeUs, receivedUs: timeUs + 5 };
  const again = { ...first, receivedUs: timeUs + 9 };
  const others = [
    { event: "another" },
    { distinctId: "another", key: "d" },
    { source: "another" },
    { value: 2 },
    { propertiesJson: "{ }" },
    { timeUs: timeUs + 1 },
  ].map((change) => ({ ...first, ...change }));

  it("in the same batch, in later ones, and after a restart, while a retry is a duplicate", async () => {
    await using stage = await createStage(warehouse, { epoch: "conflict" });
    const append = (...all: Parameters<typeof eventRecord>[0][]) => stage.append(...all.map(eventRecord));
    await append(first, ...others, again);
    const consumer = stage.start();
    await stage.drained();
    await append(...others, again);
    await stage.drained();
    expect(await stage.metric(consumer, "millrace_id_conflicts_total")).toBe(2 * others.length);
    await consumer[Symbol.asyncDispose]();
    await append(...others, again);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 3, conflicts: 3 * others.length }));
    expect(new Set((await detailsOf("conflict")).map((line) => line.replace(/^\d+ /, "")))).toEqual(
      new Set(["conflict 0:0", "duplicate 0:0"]),
    );
  });

  it("of another partition, when it is flagged", async () => {
    await using stage = await createStage(warehouse, { partitions: 2, epoch: "conflict-far" });
    await stage.append(eventRecord({ id: idOf(8), key: "a" }));
    stage.start();
    await stage.drained();
    const flagged = ["a", "b", "c", "d"].map((key) => ({ id: idOf(8), key, checkStored: true }));
    await stage.append(...flagged.flatMap((one) => [eventRecord(one), eventRecord({ ...one, event: "another" })]));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 4, conflicts: 4 }));
  });

  it("costs no question where no id comes again, and one question where a batch of them does", async () => {
    await using stage = await createStage(warehouse, { epoch: "conflict-cost" });
    const questions: string[] = [];
    stage.start({
      warehouse: (inner) => ({
        ...inner,
        query(sql, options) {
          if (sql.includes("SHA256")) questions.push(sql);
          return inner.query(sql, options);
        },
      }),
    });
    const records = Array.from({ length: 500 }, (_, n) => eventRecord({ id: idOf(20_000 + n) }));
    await stage.append(...records);
    await stage.drained();
    expect(questions).toHaveLength(0);
    await stage.append(...records);
    await stage.drained();
    expect(questions).toHaveLength(1);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 500, duplicates: 500 }));
  });
});

describe("two rows are made", () => {
  it("after a restart without a backlog, whatever time it is for the consumer", async () => {
    await using stage = await createStage(warehouse, { epoch: "clock" });
    await stage.append(eventRecord({ id: idOf(1) }));
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    const rebuilt = Promise.withResolvers<void>();
    stage.start({
      clock: { ...systemClock, nowMs: () => Date.now() + 5 * 3_600_000 },
      log: withAssignments((inner) => ({
        ...inner,
        read(options) {
          if (options.from === 1) rebuilt.resolve();
          return inner.read(options);
        },
      })),
    });
    await rebuilt.promise;
    await stage.append(eventRecord({ id: idOf(1) }));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 1 }));
  });

  it("of one id under two api keys", async () => {
    await using stage = await createStage(warehouse, { epoch: "keys" });
    await stage.append(eventRecord({ id: idOf(1), apiKey: "a" }), eventRecord({ id: idOf(1), apiKey: "b" }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2 }));
  });

  it("of a gateway-made id that comes twice, against all odds", async () => {
    await using stage = await createStage(warehouse, { epoch: "gateway" });
    const record = eventRecord();
    await stage.append(record, record);
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2 }));
  });

  const cuts = [
    ["in one batch", 50_000],
    ["in two batches", 1],
  ] as const;

  it.each(cuts)("of an id that comes again after the window's time, %s", async (name, batchSize) => {
    let now = 1_790_000_000_000;
    await using stage = await createStage(warehouse, { epoch: `age ${name}`, now: () => now });
    await stage.append(eventRecord({ id: idOf(1) }));
    now += 3_600_001;
    await stage.append(eventRecord({ id: idOf(1) }));
    stage.start({ config: { batchSize } });
    await stage.drained();
    expect(apartFromIds(await stage.audit())).toMatchObject(twoRows());
  });

  it.each(cuts)("of an id that comes again after the window's number of records, %s", async (name, batchSize) => {
    const epoch = `count ${name}`;
    await using stage = await createStage(warehouse, { epoch });
    const again = () => eventRecord({ id: idOf(1) });
    await stage.append(again(), ...Array.from({ length: 10 }, () => eventRecord()), again(), again());
    stage.start({ config: { batchSize, idWindowCount: 10 } });
    await stage.drained();
    const { rows, duplicates } = await stage.audit();
    // Offset 11 is 11 after the first and a row; offset 12 is 1 after that row.
    expect({ rows, duplicates }).toEqual({ rows: 12, duplicates: 1 });
    expect(await detailsOf(epoch)).toEqual(["12 duplicate 0:11"]);
  });

  it("neither sooner nor later than the window says, also when it is rebuilt", async () => {
    let now = 1_790_000_000_000;
    await using stage = await createStage(warehouse, { epoch: "edge", now: () => now });
    await stage.append(eventRecord({ id: idOf(1) }), eventRecord({ id: idOf(2) }));
    const first = stage.start();
    await stage.drained();
    await first[Symbol.asyncDispose]();
    now += 3_600_000;
    await stage.append(eventRecord({ id: idOf(1) }));
    now += 1;
    await stage.append(eventRecord({ id: idOf(2) }));
    stage.start();
    await stage.drained();
    expect(await detailsOf("edge")).toEqual(["2 duplicate 0:0"]);
    expect((await stage.audit()).rows).toBe(3);
  });
});

describe("a flagged record", () => {
  it("is looked up among all rows, however old, of whichever epoch and partition", async () => {
    const [older, newer] = [idOf(101), idOf(102)];
    {
      await using stage = await createStage(warehouse, { epoch: "flag-old" });
      await stage.append(eventRecord({ id: older }));
      stage.start();
      await stage.drained();
    }
    let now = Date.now();
    await using stage = await createStage(warehouse, { partitions: 2, epoch: "flag-new", now: () => now });
    await stage.append(eventRecord({ id: newer, key: "a" }));
    stage.start();
    await stage.drained();
    now += 30 * 86_400_000;
    // These keys go to both of the partitions.
    const flagged = ["a", "b", "c", "d"].map((key) => eventRecord({ id: newer, key, checkStored: true }));
    await stage.append(eventRecord({ id: older, checkStored: true }), ...flagged, eventRecord());
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2, duplicates: 5 }));
    expect((await detailsOf("flag-new")).filter((line) => line.includes("duplicate flag-old:0:0"))).toHaveLength(1);
  });

  it("is a duplicate of one before it in its own batch, however much later it came", async () => {
    let now = 1_790_000_000_000;
    await using stage = await createStage(warehouse, { epoch: "flag-batch", now: () => now });
    await stage.append(eventRecord({ id: idOf(103) }));
    now += 86_400_000;
    await stage.append(eventRecord({ id: idOf(103), checkStored: true }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 1 }));
  });

  it("whose id the gateway made is looked up too: a dead letter replayed twice is one row", async () => {
    await using stage = await createStage(warehouse, { epoch: "flag-gateway" });
    const record = eventRecord({ checkStored: true });
    await stage.append(record, record);
    stage.start();
    await stage.drained();
    await stage.append(record);
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1, duplicates: 2 }));
  });

  it("comes in thousands without asking for more than a URL may hold", async () => {
    await using stage = await createStage(warehouse, { epoch: "flag-many" });
    const ids = Array.from({ length: 2500 }, (_, n) => idOf(10_000 + n));
    await stage.append(...ids.map((id) => eventRecord({ id })));
    stage.start();
    await stage.drained();
    await stage.append(...ids.map((id) => eventRecord({ id, checkStored: true })));
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 2500, duplicates: 2500 }));
  });

  it("that is no one's duplicate is a row", async () => {
    await using stage = await createStage(warehouse, { epoch: "flag-new-id" });
    await stage.append(eventRecord({ id: idOf(104), checkStored: true }));
    stage.start();
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 1 }));
  });
});
