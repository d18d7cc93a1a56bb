// Process under test: a consumer from the Kafka broker of its first argument to the ClickHouse of its second.
import { pino } from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { startConsumer } from "../services/consumer/app.ts";
import { batchSettings } from "../services/consumer/config.ts";
import { EVENTS } from "../services/consumer/kinds.ts";
import { defaultsOf } from "./defaults.ts";
import { serveMeter } from "./meter.ts";

const [broker = "", url = ""] = process.argv.slice(2);
const logger = pino({ level: "error" });
const log = createKafkaLog({ brokers: [broker], clientId: "bench-consumer", logger });
const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "millrace" });
const config = defaultsOf(batchSettings);
const consumer = startConsumer(config, {
  kinds: [EVENTS],
  log,
  warehouse,
  registry: createMetricsRegistry("bench"),
  logger,
});

serveMeter(
  {
    async [Symbol.asyncDispose]() {
      await consumer[Symbol.asyncDispose]();
      await log[Symbol.asyncDispose]();
      await warehouse[Symbol.asyncDispose]();
    },
  },
  {},
);
