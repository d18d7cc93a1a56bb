// Settings and arguments of `millrace verify`.
import { z } from "zod";
import { argument, text } from "#lib/config/settings.ts";
import { kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

export const verifySchema = z.object({
  json: argument().describe("Print the audit as JSON."),
  repair: argument().describe("Store what is missing again, from the log."),
  dataDir: text("./.millrace").describe("Directory of the standalone; its log is read unless KAFKA_BROKERS is set."),
  ...kafkaSettings,
  ...clickhouseSettings,
});

export type VerifyConfig = z.output<typeof verifySchema>;
