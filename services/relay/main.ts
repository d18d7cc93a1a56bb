// `millrace relay`: settings, Kafka, metrics.

import { settings } from "#lib/config/command.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createService } from "#lib/process/run-command.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { startRelayService } from "./app.ts";
import { relaySchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the log's own closing. */
const STOP_MARGIN_MS = 10_000;

const parse = settings(
  relaySchema,
  "millrace relay",
  "Polls agents over pulse's line protocol and puts their points on the log.",
);

export const main = createService({
  name: "relay",
  parse,
  stopTimeoutMs: ({ stopTimeout }) => stopTimeout + STOP_MARGIN_MS,
  async start(config, { logger, env, owner }) {
    owner.use(await startTelemetry({ service: "relay", env, logger }));
    const log = createKafkaLog(kafkaOptions(config, "millrace-relay", logger));
    owner.use(log);
    owner.use(await startRelayService(config, { log, registry: createMetricsRegistry("relay"), logger }));
    return undefined;
  },
});
