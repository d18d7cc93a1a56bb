// `millrace pulse`: pulse's command line and log lines around its server.
import { printable } from "#lib/process/printable.ts";
import { createService } from "#lib/process/run-command.ts";
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

export const main = createService({
  name: "pulse",
  parse: (argv) => parsePulse(argv),
  stopTimeoutMs: ({ standalone }) => standalone.stopTimeout + STOP_MARGIN_MS,
  async start(config, { logger, owner, out, err }) {
    const sayWhy = (error: unknown): never => {
      // For the person at the terminal; the log line that follows has the causes.
      err(`millrace pulse: ${printable(inOwnNames(error))}\n`);
      throw error;
    };
    const pulse = owner.use(await startPulse(config, logger).catch(sayWhy));
    out(banner(pulse, config));
    return pulse;
  },
});

function banner({ httpUrl, relayAddress, clickhouseUrl }: Pulse, config: PulseConfig): string {
  const access = config.token === undefined ? "no token is required" : "send the token as X-AUTH-TOKEN";
  return `pulse is ready, served by Millrace.
  history     ${httpUrl}   (${access}${config.hasAlertRoutes ? "" : "; no alerts: --kapacitor-address is empty"})
  relays      ${relayAddress}
  ClickHouse  ${clickhouseUrl}   data in ${config.standalone.dataDir}
Ctrl-C stops it; what was accepted is kept.
`;
}

function inOwnNames(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll(/\b[A-Z_]+_(?:PORT|DIR)\b/g, (name) => OWN_NAMES[name] ?? name);
}
