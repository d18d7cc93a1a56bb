// ClickHouse goes away and comes back. The partition waits, says so, loses nothing and goes on by itself.

import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { startConsumer } from "../../services/consumer/app.ts";
import { EVENTS } from "../../services/consumer/kinds.ts";
import { auditStored, exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { BATCHES, createStage, eventRecord, withInsert } from "../kit/consumer.ts";
import { atMost } from "../kit/patience.ts";
import { until } from "../kit/until.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("outage");
  warehouse = clickhouse.warehouse("outage");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

it("ClickHouse killed with -9 four times under load costs no row and doubles none", async () => {
  const log = await createSqliteLog({ file: ":memory:" });
  await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
  const epoch = (await log.epoch()) as string;
  const consumer = startConsumer(
    { ...BATCHES, batchSize: 500 },
    { kinds: [EVENTS], log, warehouse, registry: new Registry(), logger: pino({ level: "silent" }) },
  );
  const batch = Array.from({ length: 500 }, () => eventRecord());
  let end = 0;
  for (let kill = 0; kill < 4; kill++) {
    const { restarts } = clickhouse.endpoint;
    for (let n = 0; n < 20; n++) {
      await log.append(EVENTS_TOPIC, batch);
      end += batch.length;
      if (n === 10) process.kill(clickhouse.endpoint.pid as number, "SIGKILL");
    }
    await until(() => clickhouse.endpoint.restarts > restarts, "ClickHouse is started again");
  }
  await until(
    async () => (await log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0)?.offset === end,
    "everything is committed",
    60_000,
  );
  await consumer[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
  const rows = end;
  expect(await auditStored(warehouse, epoch, new Map([[0, end]]))).toMatchObject(exactlyOnce({ rows }));
});

it("the lag grows while ClickHouse is away, and is gone afterwards", async () => {
  await using stage = await createStage(warehouse, { epoch: "lag" });
  let isAway = true;
  const consumer = stage.start({
    warehouse: withInsert(async (_, insert) => {
      if (isAway) throw new WarehouseError("ClickHouse insert failed (ECONNREFUSED)", "transient");
      await insert();
    }),
  });
  await stage.append(eventRecord());
  await until(async () => ((await stage.metric(consumer, "millrace_insert_errors_total")) ?? 0) > 0, "an insert fails");
  await stage.append(...Array.from({ length: 9 }, () => eventRecord()));
  await until(async () => (await stage.metric(consumer, "millrace_lag_records")) === 10, "the lag is 10 records");
  const seconds = (await stage.metric(consumer, "millrace_lag_seconds")) as number;
  await until(
    async () => ((await stage.metric(consumer, "millrace_lag_seconds")) ?? 0) > seconds,
    "the oldest record grows older",
  );
  isAway = false;
  await stage.drained();
  await until(async () => (await stage.metric(consumer, "millrace_lag_records")) === 0, "the lag is gone");
  expect(await stage.metric(consumer, "millrace_lag_seconds")).toBe(0);
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 10 }));
});

it("a partition that is lost takes its lag along", async () => {
  await using stage = await createStage(warehouse, { epoch: "lag-lost" });
  await stage.append(eventRecord());
  const consumer = stage.start();
  await until(async () => (await stage.metric(consumer, "millrace_lag_records")) === 0, "the lag is known");
  await stage.log.revoke(0);
  expect(await stage.metric(consumer, "millrace_lag_records")).toBeUndefined();
});

it("stopping during an outage takes seconds, and the next start stores what was in flight", async () => {
  await using stage = await createStage(warehouse, { epoch: "stop-away" });
  await stage.append(...Array.from({ length: 10 }, () => eventRecord()));
  // It hangs, which is worse than refusing; the signal of the call is all that ends it.
  const hang = (signal?: AbortSignal) =>
    new Promise<never>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true }));
  let hung = 0;
  const consumer = stage.start({
    warehouse: withInsert(({ signal }) => {
      hung++;
      return hang(signal);
    }),
  });
  await until(() => hung > 0, "an insert hangs");
  const begun = performance.now();
  await consumer[Symbol.asyncDispose]();
  expect(performance.now() - begun).toBeLessThan(atMost(10_000));
  stage.start();
  await stage.drained();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 10 }));
});

it("a partition assigned during an outage begins when ClickHouse is back", async () => {
  await using stage = await createStage(warehouse, { epoch: "assigned-away" });
  await stage.append(...Array.from({ length: 10 }, () => eventRecord()));
  let questions = 0;
  stage.start({
    warehouse: (inner) => ({
      ...inner,
      async query(sql, options) {
        if (questions++ < 5) throw new WarehouseError("ClickHouse query failed (ECONNREFUSED)", "transient");
        return inner.query(sql, options);
      },
    }),
  });
  await stage.drained();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 10 }));
});

it("a partition that never stored anything says how much waits, and nothing about since when if the log does not tell", async () => {
  await using stage = await createStage(warehouse, { epoch: "first-lag" });
  await stage.append(...Array.from({ length: 4 }, () => eventRecord()));
  let isAway = true;
  const consumer = stage.start({
    log: (inner) => ({ ...inner, tail: async (...args) => (isAway ? [] : inner.tail(...args)) }),
    warehouse: (inner) => ({
      ...inner,
      async query(sql, options) {
        if (isAway) throw new WarehouseError("ClickHouse query failed (ECONNREFUSED)", "transient");
        return inner.query(sql, options);
      },
    }),
  });
  await until(async () => (await stage.metric(consumer, "millrace_lag_records")) === 4, "the lag is known");
  expect(await stage.metric(consumer, "millrace_lag_seconds")).toBeUndefined();
  isAway = false;
  await stage.drained();
});

it("a partition assigned during an outage says how far behind it is all the same", async () => {
  await using stage = await createStage(warehouse, { epoch: "assigned-lag" });
  await stage.append(...Array.from({ length: 3 }, () => eventRecord()));
  const first = stage.start();
  await stage.drained();
  await first[Symbol.asyncDispose]();
  await stage.append(...Array.from({ length: 5 }, () => eventRecord()));
  let isAway = true;
  const second = stage.start({
    warehouse: (inner) => ({
      ...inner,
      async query(sql, options) {
        if (isAway) throw new WarehouseError("ClickHouse query failed (ECONNREFUSED)", "transient");
        return inner.query(sql, options);
      },
    }),
  });
  await until(async () => (await stage.metric(second, "millrace_lag_records")) === 5, "the lag is known");
  // Since when the oldest of them waits is on the log, which is not away.
  await until(async () => ((await stage.metric(second, "millrace_lag_seconds")) ?? 0) > 0.5, "since when is known");
  isAway = false;
  await stage.drained();
  expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 8 }));
});
