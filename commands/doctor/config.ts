// Settings and arguments of `millrace doctor`.
import { z } from "zod";
import { argument, duration, httpUrl, secret, text } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import { checkLogin, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

export const doctorSchema = z
  .object({
    json: argument().describe("Print the findings as JSON."),
    noCanary: argument().describe("Send no canary event; checks that need one are skipped."),
    doctorTimeout: duration("10s", { min: 100, max: 600_000 }).describe("Longest time for each check by itself."),
    millraceUrl: httpUrl("http://127.0.0.1:8080").describe("Address of the gateway."),
    millraceApiKey: secret().describe("One of the gateway's keys, if it has any."),
    statsUrl: httpUrl().describe(
      "Address of stats; unset: http://127.0.0.1:8081 for a standalone, not checked with KAFKA_BROKERS.",
    ),
    tlsCa: authorities().describe("PEM file with certificates to trust besides the public authorities', for https."),
    dataDir: text("./.millrace").describe("Directory of the standalone; its log is read unless KAFKA_BROKERS is set."),
    ...kafkaSettings,
    ...clickhouseSettings,
  })
  .superRefine(checkLogin);

export type DoctorConfig = z.output<typeof doctorSchema>;

/** One process with a SQLite log, rather than services around Kafka. */
export function isStandalone({ kafkaBrokers }: Pick<DoctorConfig, "kafkaBrokers">): boolean {
  return kafkaBrokers.length === 0;
}

/** What makes missing tables and topics. */
export function migrateFix(config: Pick<DoctorConfig, "kafkaBrokers">): string {
  return isStandalone(config)
    ? "restart `millrace start` with MIGRATE_ON_START=true, its default"
    : "run `millrace migrate`";
}
