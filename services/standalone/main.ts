import { parseConfig } from "#lib/runtime/config.ts";
import { runService } from "#lib/runtime/lifecycle.ts";
import { createLogger } from "#lib/runtime/log.ts";
import { startTelemetry } from "#lib/runtime/telemetry.ts";
import { startStandalone } from "./app.ts";
import { standaloneSchema } from "./config.ts";

const STOP_MARGIN_MS = 20_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(standaloneSchema, {
    argv,
    env,
    command: "millrace start",
    summary:
      "Everything in one place: gateway, SQLite event log, consumer and a ClickHouse endpoint. Needs nothing else.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "standalone" });
  return runService({
    name: "standalone",
    logger,
    stopTimeoutMs: config.stopTimeout + STOP_MARGIN_MS,
    async start() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startTelemetry({ service: "standalone", env, logger }));
      const standalone = stack.use(await startStandalone(config, logger).catch(sayWhy));
      const { gatewayUrl, clickhouseUrl } = standalone;
      process.stdout.write(
        `Millrace is ready.\n  events      ${gatewayUrl}   (POST /events, Connect, gRPC, gRPC-Web)\n  health      ${gatewayUrl}/readyz   metrics ${gatewayUrl}/metrics\n  ClickHouse  ${clickhouseUrl}   data in ${config.dataDir}\nCtrl-C stops it; what was accepted is kept.\n`,
      );
      const owned = stack.move();
      return { failed: standalone.failed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}

/** For the person at the terminal; the log line that follows has the causes. */
function sayWhy(error: unknown): never {
  process.stderr.write(`millrace start: ${error instanceof Error ? error.message : String(error)}\n`);
  throw error;
}
