// `millrace migrate`: creates or updates tables, topics and epochs.
import { z } from "zod";
import { settings } from "#lib/config/command.ts";
import { argument, oneOf } from "#lib/config/settings.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import { kafkaOptions, kafkaSettings, requireKafka } from "#lib/eventlog/kafka/settings.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { prepareStores } from "#lib/ledger/prepare-stores.ts";
import { createLogger, LOG_LEVELS } from "#lib/process/log.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions, clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { applyRetentions, retentionSettings } from "#lib/warehouse/retention.ts";

const migrateSchema = z
  .object({
    ...clickhouseSettings,
    ...kafkaSettings,
    ...retentionSettings,
    newEpoch: argument().describe(
      "Begin a new epoch of the topic of events, beside the rows of the old one, where a consumer halts and asks for it: the log was emptied, or made again on brokers that give topics no id.",
    ),
    newPointsEpoch: argument().describe("The same for the topic of points."),
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine(requireKafka);

const parse = settings(
  migrateSchema,
  "millrace migrate",
  "Creates what is missing of tables and topics. Idempotent; running it in parallel is harmless.",
);

export const main = createCommand({
  name: "migrate",
  parse,
  async run({ config }, { owner }) {
    const logger = createLogger({ level: config.logLevel, service: "migrate" });
    const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    owner.use(warehouse);
    const log = createKafkaLog(kafkaOptions(config, "millrace-migrate", logger));
    owner.use(log);
    try {
      const newEpochs = [...(config.newEpoch ? [EVENTS_TOPIC] : []), ...(config.newPointsEpoch ? [POINTS_TOPIC] : [])];
      await prepareStores({ config, log, warehouse, logger, newEpochs });
      await applyRetentions(warehouse, config, logger);
      return 0;
    } catch (error) {
      logger.fatal({ err: error }, "migration failed; run it again when the cause is gone");
      return 1;
    }
  },
});
