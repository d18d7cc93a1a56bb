// `millrace start`: everything in one process, and its banner.
import { parseConfig } from "#lib/config/parse.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { type Standalone, startStandalone } from "./app.ts";
import { standaloneSchema } from "./config.ts";

const STOP_MARGIN_MS = 20_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(standaloneSchema, {
    argv,
    env,
    command: "millrace start",
    summary:
      "Everything in one place: gateway, relay, SQLite event log, consumer, stats and ClickHouse. Needs nothing else.",
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
      process.stdout.write(banner(standalone, config.dataDir));
      const owned = stack.move();
      return { failed: standalone.failed, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    },
  });
}

function banner({ gatewayUrl, statsUrl, relayAddress, clickhouseUrl }: Standalone, dataDir: string): string {
  return `Millrace is ready.
  events      ${gatewayUrl}   (POST /events, Connect, gRPC, gRPC-Web)
  stats       ${statsUrl}   (history, alerts, live values)
  relays      ${relayAddress}   (millrace agent --server ${relayAddress})
  health      ${gatewayUrl}/readyz   metrics ${gatewayUrl}/metrics
  ClickHouse  ${clickhouseUrl}   data in ${dataDir}
Ctrl-C stops it; what was accepted is kept.
`;
}

/** For the person at the terminal; the log line that follows has the causes. */
function sayWhy(error: unknown): never {
  process.stderr.write(`millrace start: ${error instanceof Error ? error.message : String(error)}\n`);
  throw error;
}
