// What every all-in-one process stands on, whatever it listens for: SQLite log, ClickHouse in a child process, consumer.
import { chmod, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { Registry } from "prom-client";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import type { HealthCheck } from "#lib/http/health.ts";
import { prepareStores } from "#lib/ledger/prepare-stores.ts";
import type { Logger } from "#lib/process/log.ts";
import { createMetricsRegistry } from "#lib/process/metrics.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { writeOwnerKey } from "#lib/warehouse/owner-key.ts";
import { applyRetentions } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startClickHouse } from "../clickhouse/app.ts";
import { startConsumer } from "../consumer/app.ts";
import { EVENTS, POINTS } from "../consumer/kinds.ts";
import type { StandaloneConfig } from "./config.ts";
import { startRetention } from "./retention.ts";

export interface Core extends AsyncDisposable {
  readonly log: OpenLog;
  /** For questions about stats: none of them takes a connection that the consumer needs. */
  readonly asked: Warehouse;
  readonly registry: Registry;
  /** The consumer's. */
  readonly checks: readonly HealthCheck[];
  readonly clickhouseUrl: string;
  /** Rejects when the consumer can go on no longer. */
  readonly failed: Promise<never>;
}

/**
 * `host` is where ClickHouse's interface listens. Rejects with a sentence that names the remedy. To be disposed of after
 * all that appends to its log.
 */
export async function startCore(config: StandaloneConfig, logger: Logger): Promise<Core> {
  await using stack = new AsyncDisposableStack();
  await makeDataDir(config.dataDir);
  const file = join(config.dataDir, "log.sqlite");
  await keepFromOthers(file);
  const log = await createSqliteLog({ file, logger });
  stack.use(log);
  const { host, clickhouseHttpPort: port, clickhouseUser: user, clickhousePassword: password, dataDir } = config;
  const isShut = password === "" && !config.clickhouseWritable;
  const shut = isShut ? { database: config.clickhouseDatabase, key: await writeOwnerKey(dataDir) } : undefined;
  const clickhouse = stack.use(await startClickHouse({ host, port, dataDir, user, password, owned: shut, logger }));

  const connection = { ...config, clickhouseUrl: clickhouse.url, kafkaPartitions: 1 };
  const warehouse = createClickHouseWarehouse(clickhouseOptions(connection));
  stack.use(warehouse);
  if (config.migrateOnStart) {
    await prepareStores({ config: connection, log, warehouse, logger, newEpochs: [] });
    await applyRetentions(warehouse, config, logger);
  }

  const registry = createMetricsRegistry("standalone");
  const consumer = stack.use(startConsumer(config, { kinds: [EVENTS, POINTS], log, warehouse, registry, logger }));
  stack.use(startRetention(log, config.logRetention, logger));
  const asked = createClickHouseWarehouse(clickhouseOptions(connection));
  stack.use(asked);

  const owned = stack.move();
  return {
    ...{ log, asked, registry },
    checks: consumer.checks,
    clickhouseUrl: clickhouse.url,
    failed: consumer.failed,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function makeDataDir(dataDir: string): Promise<void> {
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(
      `Cannot create the data directory ${dataDir} (${code}): ${remedyOf(code)}, or set DATA_DIR to another.`,
      { cause: error },
    );
  }
}

/**
 * The log holds events, addresses and API keys: only its user may read it. SQLite gives the files beside it the mode of the
 * database, which is why an empty one is made here.
 */
async function keepFromOthers(file: string): Promise<void> {
  // A directory or a file that cannot be used is for SQLite to find, in words that name the remedy.
  const ignore = () => undefined;
  await open(file, "a", 0o600).then((made) => made.close(), ignore);
  for (const each of [file, `${file}-wal`, `${file}-shm`]) await chmod(each, 0o600).catch(ignore);
}

function remedyOf(code: string | undefined): string {
  if (code === "ENOSPC") return "free space on its disk";
  if (code === "EEXIST" || code === "ENOTDIR") return "move the file away that is in its place";
  return "make the directory above it writable for this user";
}
