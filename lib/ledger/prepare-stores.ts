// Tables, topics and epochs: everything the services expect to find. Idempotent, so that any of them may run it.
import { fileURLToPath } from "node:url";
import { type LogAdmin, type LogReader, LogUnavailableError } from "#lib/eventlog/log.ts";
import { ALERTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";
import { type ClickHouseConfig, clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import { applyPromoted } from "#lib/warehouse/promoted-columns.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { recordEpoch, recordedEpoch } from "./epochs.ts";
import { stillHeld, storedHeads, TRIMMED_REMEDY } from "./same-log.ts";
import { STORED_TOPICS } from "./stored-topics.ts";

const MIGRATIONS = fileURLToPath(new URL("../../migrations", import.meta.url));

/** Of a topic that is created, unless KAFKA_PARTITIONS says otherwise. */
const PARTITIONS = 12;

export interface PrepareOptions {
  config: ClickHouseConfig & { kafkaPartitions: number };
  log: LogReader & LogAdmin;
  warehouse: Warehouse;
  logger: Logger;
  /** Topics to begin a new epoch of although they exist: they were deleted and made again. */
  newEpochs: readonly string[];
}

/** Rejects with MigrationError, SameLogError, PromotionError, WarehouseError, UnfitTopicError or LogUnavailableError; running it again continues. */
export async function prepareStores({ config, log, warehouse, logger, newEpochs }: PrepareOptions): Promise<void> {
  const { cluster, ...connection } = clickhouseOptions(config);
  const { applied } = await migrate({
    connection,
    cluster,
    database: config.clickhouseDatabase,
    directory: MIGRATIONS,
    logger,
  });
  await applyPromoted(warehouse);
  const epochs = (await log.epoch()) === undefined ? await epochsOf(warehouse) : undefined;
  for (const topic of newEpochs) await refuseSameLog(log, warehouse, topic, epochs?.get(topic));
  const partitions = config.kafkaPartitions || PARTITIONS;
  const created = await log.createTopics([
    ...STORED_TOPICS.map(({ topic }) => ({ topic, partitions })),
    // Its one partition is a lease.
    { topic: ALERTS_TOPIC, partitions: 1 },
  ]);
  for (const { topic } of epochs ? STORED_TOPICS : []) {
    const topicId = await log.topicId(topic);
    // A topic this run has made begins at offset 0, whatever was stored under an older one of its name. An epoch that
    // came since the look above is that of somebody who does the same, and one that is of the new topic by now is that of a
    // consumer. Of the others consumers find out whether the log goes on: they may read it, and who migrates may not.
    const before = epochs?.get(topic);
    const { epoch, isNew } = await recordEpoch(warehouse, topic, topicId, (present, isOfTopic) => {
      return present === before && (newEpochs.includes(topic) || (created.includes(topic) && !isOfTopic));
    });
    if (isNew) logger.info({ topic, epoch }, "new epoch recorded");
  }
  logger.info({ migrations: applied.length, topics: created.length }, "tables and topics are in place");
}

async function epochsOf(warehouse: Warehouse): Promise<Map<string, string | undefined>> {
  const read = STORED_TOPICS.map(async ({ topic }) => [topic, await recordedEpoch(warehouse, topic)] as const);
  return new Map(await Promise.all(read));
}

/** A new epoch of a log that is the old one would store all of its records again, beside those that are stored. */
async function refuseSameLog(
  log: LogReader,
  warehouse: Warehouse,
  topic: string,
  epoch: string | undefined,
): Promise<void> {
  const kind = STORED_TOPICS.find((each) => each.topic === topic);
  if (!kind || epoch === undefined) return;
  const held = await stillHeld(log, topic, await storedHeads(warehouse, kind, epoch)).catch((error: unknown) => {
    // Not there: it is made below.
    if (error instanceof LogUnavailableError) return undefined;
    throw error;
  });
  if (!held) return;
  throw new SameLogError(
    `topic ${topic} still holds what is stored (partition ${held.partition}, offset ${held.offset}): a new epoch would ` +
      `store all of it a second time. If records were removed before they were stored: ${TRIMMED_REMEDY}`,
  );
}

/** A new epoch was asked for without need; the message says what to do instead. */
export class SameLogError extends Error {
  override readonly name = "SameLogError";
}
