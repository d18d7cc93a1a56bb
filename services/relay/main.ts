// `millrace relay`: settings, Kafka, metrics.

import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { startRelayService } from "./app.ts";
import { relaySchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the log's own closing. */
const STOP_MARGIN_MS = 10_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(relaySchema, {
    argv,
    env,
    command: "millrace relay",
    summary: "Asks host agents for their values over pulse's line protocol and puts the points on the log.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "relay" });
  return runService({
    name: "relay",
    logger,
    stopTimeoutMs: config.stopTimeout + STOP_MARGIN_MS,
    async start() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startTelemetry({ service: "relay", env, logger }));
      const log = createKafkaLog(kafkaOptions(config, "millrace-relay", logger));
      stack.use(log);
      stack.use(await startRelayService(config, { log, registry: createMetricsRegistry("relay"), logger }));
      const owned = stack.move();
      return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}
