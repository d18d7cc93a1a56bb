// `millrace gateway`: settings, Kafka, metrics.

import { parseConfig } from "#lib/config/parse.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { startGateway } from "./app.ts";
import { gatewaySchema } from "./config.ts";

/** Beyond STOP_TIMEOUT: the last append and the log's own closing. */
const STOP_MARGIN_MS = 10_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(gatewaySchema, {
    argv,
    env,
    command: "millrace gateway",
    summary: "Takes events over Connect, gRPC, gRPC-Web and JSON and makes them durable in Kafka before it says yes.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "gateway" });
  return runService({
    name: "gateway",
    logger,
    stopTimeoutMs: config.stopTimeout + STOP_MARGIN_MS,
    async start() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startTelemetry({ service: "gateway", env, logger }));
      const log = createKafkaLog(kafkaOptions(config, "millrace-gateway", logger));
      stack.use(log);
      stack.use(await startGateway(config, { log, registry: createMetricsRegistry("gateway"), logger }));
      const owned = stack.move();
      return { [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}
