// Tables, topics and epochs: everything the services expect to find. Idempotent, so that any of them may run it.
import { fileURLToPath } from "node:url";
import type { LogAdmin, LogReader } from "#lib/eventlog/log.ts";
import { ALERTS_TOPIC, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";
import { type ClickHouseConfig, clickhouseOptions } from "./clickhouse-settings.ts";
import { readEpoch, recordEpoch } from "./epochs.ts";
import { migrate } from "./migrate.ts";
import { applyPromoted } from "./promoted-columns.ts";
import type { Warehouse } from "./warehouse.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations", import.meta.url));

export interface PrepareOptions {
  config: ClickHouseConfig & { kafkaPartitions: number };
  log: LogReader & LogAdmin;
  warehouse: Warehouse;
  logger: Logger;
  /** Topics to begin a new epoch of although they exist: they were deleted and made again. */
  newEpochs: readonly string[];
}

/** Topics whose records become rows. */
const TOPICS = [EVENTS_TOPIC, POINTS_TOPIC];

/** Rejects with MigrationError, PromotionError, WarehouseError or LogUnavailableError; running it again continues. */
export async function prepareStores({ config, log, warehouse, logger, newEpochs }: PrepareOptions): Promise<void> {
  const { url, user, password, ca, cluster } = clickhouseOptions(config);
  const { applied } = await migrate({
    connection: { url, user, password, ca },
    cluster,
    database: config.clickhouseDatabase,
    directory: MIGRATIONS,
    logger,
  });
  await applyPromoted(warehouse);
  const partitions = config.kafkaPartitions;
  const created = await log.createTopics([
    ...TOPICS.map((topic) => ({ topic, partitions })),
    // Its one partition is a lease.
    { topic: ALERTS_TOPIC, partitions: 1 },
  ]);
  if ((await log.epoch()) === undefined) {
    for (const topic of TOPICS) {
      // A topic this run has made begins at offset 0, whatever was stored under an older one of its name.
      const isNew = newEpochs.includes(topic) || created.includes(topic);
      if (!isNew && (await readEpoch(warehouse, topic)) !== undefined) continue;
      const epoch = await recordEpoch(warehouse, topic);
      logger.info({ topic, epoch }, "new epoch recorded");
    }
  }
  logger.info({ migrations: applied.length, topics: created.length }, "tables and topics are in place");
}
