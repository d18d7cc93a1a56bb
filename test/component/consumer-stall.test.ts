// A partition that has records and gets none, for whatever reason below the log's port: noticed within 35 s, counted, and
// remedied by joining the group anew. Time is moved by hand.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Assignment } from "#lib/eventlog/log.ts";
import { type Clock, systemClock } from "#lib/process/clock.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createStage, eventRecord, type RunningConsumer, withAssignments, withInsert } from "../kit/consumer.ts";
import { patience } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("stall");
  warehouse = clickhouse.warehouse("stall");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const MESSAGE = "partition gets no records, rejoining the group";
/** Two rounds of the watch and of the lag beside it. */
const LOOK_MS = 4500;

function movableClock() {
  let skippedMs = 0;
  const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + skippedMs };
  return {
    clock,
    skip(ms: number) {
      skippedMs += ms;
    },
  };
}

/** The first assignment of partition 0 is changed, all later ones are not. */
function firstOnly(change: (inner: Assignment) => Assignment) {
  let assignments = 0;
  return withAssignments((inner) => (inner.partition === 0 && assignments++ === 0 ? change(inner) : inner));
}

const rejectedWhenLost = (lost: AbortSignal) =>
  new Promise<never>((_, reject) => lost.addEventListener("abort", () => reject(lost.reason), { once: true }));
const stallsSeen = ({ warnings }: RunningConsumer) => warnings.filter(({ msg }) => msg === MESSAGE).length;

describe.concurrent("a partition with records stands still", () => {
  it.each<[string, (inner: Assignment) => Assignment]>([
    [
      "because reads bring nothing",
      (inner) => ({
        ...inner,
        async read() {
          await pause(20);
          return [];
        },
      }),
    ],
    ["because a read never ends, whatever it is told", (inner) => ({ ...inner, read: () => new Promise(() => {}) })],
    ["because a commit is never answered", (inner) => ({ ...inner, commit: () => rejectedWhenLost(inner.lost) })],
  ])("%s: the group is joined anew after 30 s, not before, and it goes on", async (name, change) => {
    await using stage = await createStage(warehouse, { epoch: name, partitions: 2 });
    const time = movableClock();
    const consumer = stage.start({ clock: time.clock, log: firstOnly(change) });
    for (let n = 0; n < 20; n++) await stage.append(eventRecord({ key: `key-${n}` }));
    await pause(LOOK_MS);
    time.skip(25_000 - LOOK_MS);
    await pause(LOOK_MS);
    expect(stallsSeen(consumer)).toBe(0);
    time.skip(6000);
    await until(() => stallsSeen(consumer) > 0, "the stall is noticed", patience(LOOK_MS));
    await stage.drained();
    expect(stallsSeen(consumer)).toBe(1);
    expect(await stage.metric(consumer, "millrace_partition_stalls_total")).toBe(1);
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 20 }));
  });
});

describe.concurrent("no stall is", () => {
  it("a log without records, or a partition that waits for ClickHouse, however long", async () => {
    await using stage = await createStage(warehouse, { epoch: "patience", partitions: 2 });
    const time = movableClock();
    let isAway = false;
    const consumer = stage.start({
      clock: time.clock,
      warehouse: withInsert(async (_, insert) => {
        if (isAway) throw new WarehouseError("ClickHouse insert failed (ECONNREFUSED)", "transient");
        await insert();
      }),
    });
    await stage.append(eventRecord());
    await stage.drained();
    isAway = true;
    await stage.append(eventRecord());
    await until(() => consumer.warnings.length > 0, "the partition waits for ClickHouse");
    // The batch that waits ended with a read that brought nothing; now there would be something.
    await stage.append(eventRecord());
    for (let n = 0; n < 3; n++) {
      await pause(LOOK_MS / 2);
      time.skip(3_600_000);
    }
    await pause(LOOK_MS / 2);
    expect(stallsSeen(consumer)).toBe(0);
    isAway = false;
    await stage.drained();
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 3 }));
  });
});
