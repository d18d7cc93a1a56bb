// `millrace consumer`: settings, Kafka, ClickHouse, health port.

import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { createHealth, serveHealth } from "#lib/http/health.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { prepareStores } from "#lib/warehouse/prepare-stores.ts";
import { startConsumer } from "./app.ts";
import { consumerSchema } from "./config.ts";
import { EVENTS, POINTS } from "./kinds.ts";

const STOP_MS_MAX = 15_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(consumerSchema, {
    argv,
    env,
    command: "millrace consumer",
    summary:
      "Moves events and points from Kafka into ClickHouse, each exactly once. Run as many as there are partitions.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "consumer" });
  return runService({
    name: "consumer",
    logger,
    stopTimeoutMs: STOP_MS_MAX,
    async start() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startTelemetry({ service: "consumer", env, logger }));
      const log = createKafkaLog(kafkaOptions(config, "millrace-consumer", logger));
      stack.use(log);
      const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
      stack.use(warehouse);
      if (config.migrateOnStart) await prepareStores({ config, log, warehouse, logger, newEpochs: [] });
      const registry = createMetricsRegistry("consumer");
      const consumer = stack.use(startConsumer(config, { kinds: [EVENTS, POINTS], log, warehouse, registry, logger }));
      const health = createHealth({
        checks: [{ name: "log", check: () => log.check() }, ...consumer.checks],
        registry,
      });
      const { host, consumerPort } = config;
      stack.use(await serveHealth({ host, port: consumerPort, setting: "CONSUMER_PORT", health, logger }));
      const owned = stack.move();
      return { failed: consumer.failed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}
