// `millrace stats`: settings, Kafka, ClickHouse.

import { settings } from "#lib/config/command.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { readKafkaRetention } from "#lib/eventlog/retention.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createService } from "#lib/process/run-command.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { startStats } from "./app.ts";
import { statsSchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the closing of log and warehouse. */
const STOP_MARGIN_MS = 10_000;

const parse = settings(
  statsSchema,
  "millrace stats",
  "Answers history queries, shows live values and evaluates alerts: pulse's HTTP API, Connect and gRPC.",
);

export const main = createService({
  name: "stats",
  parse,
  stopTimeoutMs: ({ stopTimeout }) => stopTimeout + STOP_MARGIN_MS,
  async start(config, { logger, env, owner }) {
    owner.use(await startTelemetry({ service: "stats", env, logger }));
    const kafka = kafkaOptions(config, "millrace-stats", logger);
    const log = createKafkaLog(kafka);
    owner.use(log);
    const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    owner.use(warehouse);
    const registry = createMetricsRegistry("stats");
    const retention = () => readKafkaRetention(kafka, EVENTS_TOPIC);
    owner.use(await startStats(config, { log, warehouse, registry, logger, retention, console: {} }));
    return undefined;
  },
});
