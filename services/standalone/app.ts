// The all-in-one composition root: gateway, consumer and SQLite log here, ClickHouse in a child process.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { createSqliteLog } from "#lib/eventlog/sqlite.ts";
import type { RunningService } from "#lib/runtime/lifecycle.ts";
import { createMetricsRegistry } from "#lib/runtime/metrics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { prepareStores } from "#lib/warehouse/prepare-stores.ts";
import { applyRetention } from "#lib/warehouse/retention.ts";
import { startConsumer } from "../consumer/app.ts";
import { EVENTS, POINTS } from "../consumer/kinds.ts";
import { startGateway } from "../gateway/app.ts";
import { startClickHouse } from "./clickhouse.ts";
import type { StandaloneConfig } from "./config.ts";
import { startRetention } from "./retention.ts";

export interface Standalone extends RunningService {
  readonly gatewayUrl: string;
  readonly clickhouseUrl: string;
}

export async function startStandalone(config: StandaloneConfig, logger: Logger): Promise<Standalone> {
  await using stack = new AsyncDisposableStack();
  await makeDataDir(config.dataDir);
  const log = await createSqliteLog({ file: join(config.dataDir, "log.sqlite"), logger });
  stack.defer(() => log.close());
  const { host, clickhouseHttpPort: port, clickhouseUser: user, clickhousePassword: password, dataDir } = config;
  const clickhouse = stack.use(await startClickHouse({ host, port, dataDir, user, password, logger }));

  const connection = { ...config, clickhouseUrl: clickhouse.url, kafkaPartitions: 1 };
  const warehouse = createClickHouseWarehouse(clickhouseOptions(connection));
  stack.defer(() => warehouse.close());
  if (config.migrateOnStart) {
    await prepareStores({ config: connection, log, warehouse, logger, newEpochs: [] });
    await applyRetention(warehouse, config.eventsRetention, logger);
  }

  const registry = createMetricsRegistry("standalone");
  const consumer = stack.use(startConsumer(config, { kinds: [EVENTS, POINTS], log, warehouse, registry, logger }));
  stack.use(startRetention(log, config.logRetention, logger));
  // Disposed first, so that what it accepts until its end is on the log before the consumer leaves.
  const gateway = stack.use(await startGateway(config, { log, registry, logger, checks: consumer.checks }));

  const owned = stack.move();
  return {
    gatewayUrl: `http://${config.host}:${gateway.port}`,
    clickhouseUrl: clickhouse.url,
    failed: consumer.failed,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function makeDataDir(dataDir: string): Promise<void> {
  try {
    await mkdir(dataDir, { recursive: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(
      `Cannot create the data directory ${dataDir} (${code}): ${remedyOf(code)}, or set DATA_DIR to another.`,
      { cause: error },
    );
  }
}

function remedyOf(code: string | undefined): string {
  if (code === "ENOSPC") return "free space on its disk";
  if (code === "EEXIST" || code === "ENOTDIR") return "move the file away that is in its place";
  return "make the directory above it writable for this user";
}
