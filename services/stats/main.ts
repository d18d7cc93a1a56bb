// `millrace stats`: settings, Kafka, ClickHouse.

import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { readKafkaRetention } from "#lib/eventlog/retention.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { startStats } from "./app.ts";
import { statsSchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the closing of log and warehouse. */
const STOP_MARGIN_MS = 10_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(statsSchema, {
    argv,
    env,
    command: "millrace stats",
    summary:
      "Answers what was measured when, shows live values and evaluates alerts: pulse's HTTP API, Connect and gRPC.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "stats" });
  return runService({
    name: "stats",
    logger,
    stopTimeoutMs: config.stopTimeout + STOP_MARGIN_MS,
    async start() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startTelemetry({ service: "stats", env, logger }));
      const kafka = kafkaOptions(config, "millrace-stats", logger);
      const log = createKafkaLog(kafka);
      stack.use(log);
      const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
      stack.use(warehouse);
      const registry = createMetricsRegistry("stats");
      const retention = () => readKafkaRetention(kafka, EVENTS_TOPIC);
      stack.use(await startStats(config, { log, warehouse, registry, logger, retention }));
      const owned = stack.move();
      return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}
