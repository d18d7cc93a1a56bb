// Settings and arguments of `millrace verify`.
import { z } from "zod";
import { onCommandLine } from "#lib/config/arguments.ts";
import { argument, count, duration, text } from "#lib/config/settings.ts";
import { checkLogin, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

export const verifySchema = z
  .object({
    json: argument().describe("Print the audit as JSON."),
    repair: argument().describe("Store what is missing again, from the log."),
    wait: onCommandLine(duration("0s")).describe(
      "Wait this long for what is on the log now to be stored, before the audit.",
    ),
    acceptLost: onCommandLine(count(0)).describe(
      "Give up what is missing and no longer on the log: the number of offsets that verify reported.",
    ),
    allowLag: argument().describe("Exit with 0 even if some of the log is not stored yet."),
    dataDir: text("./.millrace").describe("Directory of the standalone; its log is read unless KAFKA_BROKERS is set."),
    ...kafkaSettings,
    ...clickhouseSettings,
  })
  .superRefine(checkLogin);

export type VerifyConfig = z.output<typeof verifySchema>;
