// Settings of `millrace consumer`: batches, id window, retries.
import { z } from "zod";
import { EVERY_ADDRESS } from "#lib/config/host-port.ts";
import { bytes, count, duration, flag, oneOf, port, text } from "#lib/config/settings.ts";
import { kafkaSettings, requireKafka } from "#lib/eventlog/kafka/settings.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

/** One insert must stay one block (docs/design.md, "Exactly once"). */
const BATCH_BYTES_MAX = 8_000_000;

/** What a consumer needs, as a process of its own or within another. */
export const batchSettings = {
  batchSize: count(50_000, { min: 1, max: 500_000 }).describe("Most records in one insert."),
  batchBytes: bytes(BATCH_BYTES_MAX, { min: 65_536, max: BATCH_BYTES_MAX }).describe("Most bytes in one insert."),
  flushInterval: duration("5s", { min: 10 }).describe(
    "Longest wait of a record for its insert; 100ms while ClickHouse is idle.",
  ),
  idWindow: duration("1h", { min: 0 }).describe("How long after a row a record with the same id counts as a retry."),
  idWindowCount: count(2_000_000, { min: 0 }).describe("How many records of a partition the id window covers at most."),
};

export type BatchConfig = z.output<z.ZodObject<typeof batchSettings>>;

export const consumerSchema = z
  .object({
    ...kafkaSettings,
    ...clickhouseSettings,
    ...batchSettings,
    host: text(EVERY_ADDRESS).describe("Address of the health port; :: is every one, of IPv4 too."),
    consumerPort: port(8083).describe("Port of /healthz, /readyz and /metrics."),
    migrateOnStart: flag(false).describe("Run `millrace migrate` before consuming."),
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine(requireKafka);
