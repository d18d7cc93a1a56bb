// The warehouse in memory against the real ClickHouse: the same cases on both.
import { startTestClickHouse } from "./clickhouse.ts";
import { createMemoryWarehouse } from "./memory-warehouse.ts";
import { keepTokenOnly } from "./safeguards-faults.ts";
import { describeWarehouse } from "./warehouse-contract.ts";

describeWarehouse("the warehouse in memory", async () => {
  const warehouse = createMemoryWarehouse({ isRefused: ({ event }) => event === "refused" });
  return {
    warehouse,
    keepTokenOnly: async (options) => warehouse.keepTokenOnly(options),
    async [Symbol.asyncDispose]() {},
  };
});

describeWarehouse("ClickHouse", async () => {
  const clickhouse = await startTestClickHouse();
  await clickhouse.migrate("contract");
  const warehouse = clickhouse.warehouse("contract");
  await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT refused CHECK event != 'refused'");
  return {
    warehouse,
    keepTokenOnly: (options, epoch) => keepTokenOnly(warehouse, options, epoch),
    [Symbol.asyncDispose]: () => clickhouse[Symbol.asyncDispose](),
  };
});
