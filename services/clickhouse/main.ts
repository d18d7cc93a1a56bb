// `millrace clickhouse`: the standalone's ClickHouse endpoint alone.
import { parseConfig } from "#lib/config/parse.ts";
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { startClickHouse } from "./app.ts";
import { endpointSchema } from "./config.ts";

const STOP_MS_MAX = 15_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseConfig(endpointSchema, {
    argv,
    env,
    command: "millrace clickhouse",
    summary: "The standalone's ClickHouse endpoint alone, for development and tests.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "clickhouse" });
  return runService({
    name: "clickhouse",
    logger,
    stopTimeoutMs: STOP_MS_MAX,
    async start() {
      const { host, clickhouseHttpPort: port, clickhouseUser: user, clickhousePassword: password, dataDir } = config;
      const endpoint = await startClickHouse({ host, port, dataDir, user, password, logger });
      logger.info({ url: endpoint.url, dataDir }, "ClickHouse endpoint is ready");
      return endpoint;
    },
  });
}
