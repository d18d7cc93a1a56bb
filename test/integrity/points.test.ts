// Points under deaths: a consumer dies at every moment there is, or at any, and what is stored and rolled up in the end is
// every point, once.
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { SLOT_MS } from "#lib/points/slots.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { POINTS } from "../../services/consumer/kinds.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, createStage, idOf, poisonRecord, type Stage, withInsert } from "../kit/consumer.ts";
import { allDiffering, letReadersSee, pointRecord, readRollup, type Series, slotAt, slowClock } from "../kit/points.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let runs = 0;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("points");
  warehouse = clickhouse.warehouse("points");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** Keys of two records on different partitions of two. */
const KEYS = ["k0", "k1"] as const;

interface Life {
  partitions: number;
  batchSize: number;
  deaths: readonly number[];
  /** Of the log's last record: slots before it are closed in the end. */
  untilMs: number;
}

/** Lets consumers die at the given moments, one after another, then one live. False: the last of them did not die. */
async function survive(stage: Stage, { partitions, batchSize, deaths, untilMs }: Life): Promise<boolean> {
  const closed = new Set<number>();
  // What the consumer notes, to be told without asking.
  const noting = withInsert(async ({ table, rows }, insert) => {
    await insert();
    if (table !== "rollup_progress") return;
    const [epoch, , partition, next] = JSON.parse(Buffer.from(rows).toString());
    // Those of earlier stages are earlier incarnations to it, which it closes as well.
    if (epoch === stage.epoch && next * 1000 >= untilMs) closed.add(partition);
  });
  const done = async () => {
    await stage.drained();
    await until(() => closed.size === partitions, "every slot is closed");
  };
  // Longer than any story: an id that comes after its window is stored again, as it should be.
  const config = { batchSize, flushInterval: 10, idWindow: 2 * 3_600_000 };
  let hasDied = true;
  for (const [consumer, deathAt] of deaths.entries()) {
    const mortal = createMortal(deathAt);
    const mortalWarehouse = (inner: Warehouse) => mortal.options.warehouse(noting(inner));
    stage.start({ config, clock: slowClock, ...mortal.options, warehouse: mortalWarehouse });
    await Promise.race([mortal.died, done()]);
    hasDied = mortal.options.isDead();
    mortal.kill();
    await stage.log.killConsumer(consumer);
  }
  const survivor = stage.start({ config, clock: slowClock, warehouse: noting });
  await done();
  await survivor[Symbol.asyncDispose]();
  return hasDied;
}

it("a death at each moment loses no point, doubles none, and leaves the roll-up equal to them", async () => {
  let moment = 1;
  // A call has two moments, before and after its effect. What is stored before one is what was after the one before it.
  for (let hasDied = true; hasDied; moment += 2) {
    const epoch = `deaths-${moment}`;
    let nowMs = slotAt(0);
    await using stage = await createStage(warehouse, { epoch, kind: POINTS, now: () => nowMs });
    const times = { timeUs: slotAt(0) * 1000 };
    await stage.append(pointRecord({ id: idOf(1), ...times }), poisonRecord, pointRecord({ id: idOf(1), ...times }));
    nowMs = slotAt(1);
    await stage.append(pointRecord({ id: idOf(1), ...times }), pointRecord({ value: 5, ...times }));
    nowMs = slotAt(2);
    await stage.append(pointRecord({ metric: "last" }));
    hasDied = await survive(stage, { partitions: 1, batchSize: 5, deaths: [moment], untilMs: slotAt(2) });
    const expected = exactlyOnce({ rows: 3, duplicates: 2, deadLetters: 1 });
    expect(await stage.audit(), `a death at ${moment}`).toMatchObject(expected);
  }
  // Fewer would mean that the harness does not reach into the roll-up.
  expect(moment).toBeGreaterThan(30);
  // Count, sum and last value of each slot, where they are not what they must be.
  const wrong = await warehouse.query(
    `SELECT log_epoch, groupArray((toUnixTimestamp(slot), toUInt32(count), sum, last)) AS slots
     FROM (SELECT * FROM points_5m FINAL WHERE startsWith(log_epoch, 'deaths-') AND metric = 'cpu' ORDER BY slot)
     GROUP BY log_epoch HAVING slots != [({first:UInt32}, 1, 1, 1), ({second:UInt32}, 1, 5, 5)]`,
    { params: { first: slotAt(0) / 1000, second: slotAt(1) / 1000 } },
  );
  expect(wrong).toEqual([]);
  const [epochs] = await warehouse.query<{ n: number }>(
    "SELECT toUInt32(uniqExact(log_epoch)) AS n FROM points_5m WHERE startsWith(log_epoch, 'deaths-')",
  );
  expect(epochs?.n).toBe((moment - 1) / 2);
});

const arbitraryPoint = fc.record({
  key: fc.constantFrom(...KEYS),
  metric: fc.constantFrom("cpu", "ram"),
  tags: fc.constantFrom<Record<string, string>[]>({}, { host: "a" }, { host: "b", zone: "1" }),
  value: fc.double({ noNaN: true, min: -1e12, max: 1e12 }),
  agoMs: fc.constantFrom(0, 1000, SLOT_MS, 86_400_000),
  id: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
});
const arbitraryStory = fc.record({
  arrivals: fc.array(
    fc.record({
      afterMs: fc.constantFrom(0, 1000, SLOT_MS, 3 * SLOT_MS),
      points: fc.array(arbitraryPoint, { maxLength: 8 }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  batchSize: fc.integer({ min: 1, max: 6 }),
  deaths: fc.array(fc.integer({ min: 0, max: 80 }), { maxLength: 3 }),
});

it("whatever arrives and whenever consumers die, the roll-up equals the raw points", async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryStory, async ({ arrivals, batchSize, deaths }) => {
      const epoch = `story-${runs++}`;
      let nowMs = slotAt(0);
      await using stage = await createStage(warehouse, { epoch, kind: POINTS, partitions: 2, now: () => nowMs });
      for (const { afterMs, points } of arrivals) {
        nowMs += afterMs;
        const records = points.map(({ agoMs, id, ...point }) => {
          // A point comes again with its key.
          const own = id === undefined ? {} : { id: idOf(id + 100 * KEYS.indexOf(point.key)) };
          return pointRecord({ ...point, ...own, timeUs: (nowMs - agoMs) * 1000 });
        });
        await stage.append(...records);
      }
      const untilMs = slotAt(100);
      nowMs = untilMs;
      await stage.append(...KEYS.map((key) => pointRecord({ key })));
      await survive(stage, { partitions: 2, batchSize, deaths, untilMs });
      const { rows, duplicates } = await stage.audit();
      expect(await stage.audit()).toMatchObject(exactlyOnce({ rows, duplicates }));
      for (const partition of [0, 1]) expect(await allDiffering(warehouse, POINTS, epoch, partition)).toEqual([]);
      await letReadersSee(warehouse, epoch);
      expect((await readRollup(warehouse, epoch)).map(withoutMedian)).toEqual(await expectedOf(epoch));
    }),
    { numRuns: 6, endOnFailure: true },
  );
});

type Expected = Omit<Series, "median">;

function withoutMedian({ median: _, ...series }: Series): Expected {
  return series;
}

/** The series as they follow from the raw rows, worked out here. */
async function expectedOf(epoch: string): Promise<unknown[]> {
  interface Row {
    metric: string;
    tags: Record<string, string>;
    value: number;
    timeMs: string;
  }
  const rows = await warehouse.query<Row>(
    `SELECT metric, tags, value, toUnixTimestamp64Milli(time) AS timeMs FROM points
     WHERE log_epoch = {epoch:String} ORDER BY time, log_time, log_partition, log_offset`,
    { params: { epoch } },
  );
  const series = Map.groupBy(rows, ({ metric, tags, timeMs }) => {
    const bucketMs = Math.floor(Number(timeMs) / SLOT_MS) * SLOT_MS;
    return JSON.stringify({ metric, tags, bucketMs });
  });
  const expected = [...series].map(([name, points]) => {
    const values = points.map(({ value }) => value);
    const lastTime = points.at(-1)?.timeMs;
    const latest = points.filter(({ timeMs }) => timeMs === lastTime).map(({ value }) => value);
    const sum = values.reduce((total, value) => total + value, 0);
    const size = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    return {
      ...(JSON.parse(name) as Pick<Series, "metric" | "tags" | "bucketMs">),
      origin: "relay",
      count: values.length,
      sum: expect.toSatisfy((actual: number) => Math.abs(actual - sum) <= 1e-9 * size * values.length),
      min: Math.min(...values),
      max: Math.max(...values),
      // Of points of one moment on two partitions, either is the last.
      last: expect.toSatisfy((actual: number) => latest.includes(actual)),
    };
  });
  const text = (tags: Record<string, string>) => JSON.stringify(tags).replaceAll('"', "'");
  return expected.sort(
    (a, b) => compare(a.metric, b.metric) || compare(text(a.tags), text(b.tags)) || a.bucketMs - b.bucketMs,
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
