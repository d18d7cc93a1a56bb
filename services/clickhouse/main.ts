// `millrace clickhouse`: the standalone's ClickHouse endpoint alone.
import { settings } from "#lib/config/command.ts";
import { createService } from "#lib/process/run-command.ts";
import { startClickHouse } from "./app.ts";
import { endpointSchema } from "./config.ts";

const STOP_MS_MAX = 15_000;

const parse = settings(
  endpointSchema,
  "millrace clickhouse",
  "The standalone's ClickHouse endpoint alone, for development and tests.",
);

export const main = createService({
  name: "clickhouse",
  parse,
  stopTimeoutMs: () => STOP_MS_MAX,
  async start(config, { logger, owner }) {
    const { host, clickhouseHttpPort: port, clickhouseUser: user, clickhousePassword: password, dataDir } = config;
    const endpoint = owner.use(await startClickHouse({ host, port, dataDir, user, password, logger }));
    logger.info({ url: endpoint.url, dataDir }, "ClickHouse endpoint is ready");
    return undefined;
  },
});
