// `millrace consumer`: settings, Kafka, ClickHouse, health port.

import { settings } from "#lib/config/command.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { createHealth, serveHealth } from "#lib/http/health.ts";
import { prepareStores } from "#lib/ledger/prepare-stores.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createService } from "#lib/process/run-command.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { startConsumer } from "./app.ts";
import { consumerSchema } from "./config.ts";
import { EVENTS, POINTS } from "./kinds.ts";

const STOP_MS_MAX = 15_000;

const parse = settings(
  consumerSchema,
  "millrace consumer",
  "Moves events and points from Kafka into ClickHouse, each exactly once. Run as many as there are partitions.",
);

export const main = createService({
  name: "consumer",
  parse,
  stopTimeoutMs: () => STOP_MS_MAX,
  async start(config, { logger, env, owner }) {
    owner.use(await startTelemetry({ service: "consumer", env, logger }));
    const log = createKafkaLog(kafkaOptions(config, "millrace-consumer", logger));
    owner.use(log);
    const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    owner.use(warehouse);
    if (config.migrateOnStart) await prepareStores({ config, log, warehouse, logger, newEpochs: [] });
    const registry = createMetricsRegistry("consumer");
    const consumer = owner.use(startConsumer(config, { kinds: [EVENTS, POINTS], log, warehouse, registry, logger }));
    const health = createHealth({
      checks: [{ name: "log", check: () => log.check() }, ...consumer.checks],
      registry,
    });
    const { host, consumerPort } = config;
    owner.use(await serveHealth({ host, port: consumerPort, setting: "CONSUMER_PORT", health, logger }));
    return consumer;
  },
});
