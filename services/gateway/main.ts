// `millrace gateway`: settings, Kafka, metrics.

import { settings } from "#lib/config/command.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createService } from "#lib/process/run-command.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { startGateway } from "./app.ts";
import { gatewaySchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the last append and the log's own closing. */
const STOP_MARGIN_MS = 10_000;

const parse = settings(
  gatewaySchema,
  "millrace gateway",
  "Takes events over Connect, gRPC, gRPC-Web and JSON and makes them durable in Kafka before it says yes.",
);

export const main = createService({
  name: "gateway",
  parse,
  stopTimeoutMs: ({ stopTimeout }) => stopTimeout + STOP_MARGIN_MS,
  async start(config, { logger, env, owner }) {
    owner.use(await startTelemetry({ service: "gateway", env, logger }));
    const log = createKafkaLog(kafkaOptions(config, "millrace-gateway", logger));
    owner.use(log);
    owner.use(await startGateway(config, { log, registry: createMetricsRegistry("gateway"), logger }));
    return undefined;
  },
});
