// `millrace start`: everything in one process, and its banner.
import { settings } from "#lib/config/command.ts";
import { printable } from "#lib/process/printable.ts";
import { createService } from "#lib/process/run-command.ts";
import { startTelemetry } from "#lib/process/telemetry.ts";
import { type Standalone, startStandalone } from "./app.ts";
import { standaloneSchema } from "./config.ts";

const STOP_MARGIN_MS = 20_000;

/** What the services read that this command stands in for. */
const ELSEWHERE = ["KAFKA_BROKERS", "CLICKHOUSE_URL", "CLICKHOUSE_DSN"];
const NOT_READ =
  "`millrace start` does not read these variables: it stores everything in DATA_DIR. With Kafka and ClickHouse of your own run `millrace gateway`, `millrace consumer` and the other services";

const parse = settings(
  standaloneSchema,
  "millrace start",
  "Everything in one place: gateway, relay, SQLite event log, consumer, stats and ClickHouse. Needs nothing else.",
);

export const main = createService({
  name: "standalone",
  parse,
  stopTimeoutMs: ({ stopTimeout }) => stopTimeout + STOP_MARGIN_MS,
  async start(config, { logger, env, owner, out, err }) {
    owner.use(await startTelemetry({ service: "standalone", env, logger }));
    const variables = ELSEWHERE.filter((name) => env[name]);
    if (variables.length > 0) logger.warn({ variables, dataDir: config.dataDir }, NOT_READ);
    const sayWhy = (error: unknown): never => {
      // For the person who started it, beside the log's JSON; on a terminal the log's line is the same sentence.
      if (!process.stdout.isTTY)
        err(`millrace start: ${printable(error instanceof Error ? error.message : String(error))}\n`);
      throw error;
    };
    const standalone = owner.use(await startStandalone(config, logger).catch(sayWhy));
    out(banner(standalone, config.dataDir));
    return standalone;
  },
});

function banner({ gatewayUrl, statsUrl, relayAddress, clickhouseUrl }: Standalone, dataDir: string): string {
  return `Millrace is ready.
  console     ${statsUrl}/   (open it in a browser)
  events      ${gatewayUrl}   (POST /events, Connect, gRPC, gRPC-Web)
  stats       ${statsUrl}   (history, alerts, live values)
  relays      ${relayAddress}   (millrace agent --server ${relayAddress})
  health      ${gatewayUrl}/readyz   metrics ${gatewayUrl}/metrics
  ClickHouse  ${clickhouseUrl}   data in ${dataDir}
Ctrl-C stops it; what was accepted is kept.
`;
}
