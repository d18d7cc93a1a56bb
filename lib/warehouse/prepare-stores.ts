// Tables, topics and epochs: everything the services expect to find. Idempotent, so that any of them may run it.
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { EventLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { ClickHouseConfig } from "./clickhouse-settings.ts";
import { readEpoch, recordEpoch } from "./epochs.ts";
import { migrate } from "./migrate.ts";
import { applyPromoted } from "./promoted-columns.ts";
import type { Warehouse } from "./warehouse.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations", import.meta.url));

export interface PrepareOptions {
  config: ClickHouseConfig & { kafkaPartitions: number };
  log: EventLog;
  warehouse: Warehouse;
  logger: Logger;
  /** Begin a new epoch although the topic exists: it was deleted and made again. */
  newEpoch: boolean;
}

/** Rejects with MigrationError, PromotionError, WarehouseError or LogUnavailableError; running it again continues. */
export async function prepareStores({ config, log, warehouse, logger, newEpoch }: PrepareOptions): Promise<void> {
  const { clickhouseUrl: url, clickhouseUser: user, clickhousePassword: password } = config;
  const { applied } = await migrate({
    connection: { url, user, password },
    database: config.clickhouseDatabase,
    directory: MIGRATIONS,
    logger,
  });
  await applyPromoted(warehouse);
  const created = await log.createTopics([{ topic: EVENTS_TOPIC, partitions: config.kafkaPartitions }]);
  // A topic this run has made begins at offset 0, whatever was stored under an older one of its name.
  const ownEpoch = await log.epoch();
  const known = ownEpoch ?? (await readEpoch(warehouse, EVENTS_TOPIC));
  if (ownEpoch === undefined && (known === undefined || newEpoch || created.includes(EVENTS_TOPIC))) {
    const epoch = await recordEpoch(warehouse, EVENTS_TOPIC);
    logger.info({ topic: EVENTS_TOPIC, epoch }, "new epoch recorded");
  }
  logger.info({ migrations: applied.length, topics: created.length }, "tables and topics are in place");
}
