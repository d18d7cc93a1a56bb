// `millrace pulse`: pulse's command line and log lines around its server.
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { type Pulse, startPulse } from "./app.ts";
import { type PulseConfig, parsePulse } from "./config.ts";

/** Beyond the time for open requests. */
const STOP_MARGIN_MS = 20_000;

/** Names that messages of the parts use, and pulse's. */
const OWN_NAMES: Readonly<Record<string, string>> = {
  STATS_PORT: "--http-listen-address",
  RELAY_PORT: "--server-listen-address",
  CLICKHOUSE_HTTP_PORT: "--clickhouse-http-port",
  DATA_DIR: "--data-dir",
};

export async function main(argv: string[], _env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parsePulse(argv);
  if (outcome.kind === "text") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.standalone.logLevel, service: "pulse" });
  return runService({
    name: "pulse",
    logger,
    stopTimeoutMs: config.standalone.stopTimeout + STOP_MARGIN_MS,
    async start() {
      const pulse = await startPulse(config, logger).catch(sayWhy);
      process.stdout.write(banner(pulse, config));
      return pulse;
    },
  });
}

function banner({ httpUrl, relayAddress, clickhouseUrl }: Pulse, config: PulseConfig): string {
  const access = config.token === undefined ? "no token is asked for" : "send the token as X-AUTH-TOKEN";
  return `pulse is ready, served by Millrace.
  history     ${httpUrl}   (${access}${config.hasAlertRoutes ? "" : "; no alerts: --kapacitor-address is empty"})
  relays      ${relayAddress}
  ClickHouse  ${clickhouseUrl}   data in ${config.standalone.dataDir}
Ctrl-C stops it; what was accepted is kept.
`;
}

/** For the person at the terminal; the log line that follows has the causes. */
function sayWhy(error: unknown): never {
  const message = error instanceof Error ? error.message : String(error);
  const own = message.replaceAll(/\b[A-Z_]+_(?:PORT|DIR)\b/g, (name) => OWN_NAMES[name] ?? name);
  process.stderr.write(`millrace pulse: ${own}\n`);
  throw error;
}
