// The log as a command finds it that stands beside the services: on Kafka when brokers are named, else the standalone's.
import { join } from "node:path";
import { createLogger } from "#lib/process/log.ts";
import { createKafkaLog } from "./kafka/log.ts";
import { type KafkaConfig, kafkaOptions } from "./kafka/settings.ts";
import type { OpenLog } from "./log.ts";
import { createSqliteLog } from "./sqlite/log.ts";

/** `command` is the name that brokers see. Rejects with LogUnavailableError when there is no log in `dataDir`. */
export async function openLogForReading(config: KafkaConfig & { dataDir: string }, command: string): Promise<OpenLog> {
  if (config.kafkaBrokers.length > 0) {
    const logger = createLogger({ level: "error", service: command, stream: process.stderr });
    return createKafkaLog(kafkaOptions(config, `millrace-${command}`, logger));
  }
  // Read-only, so that the process that writes the file is not disturbed.
  return createSqliteLog({ file: join(config.dataDir, "log.sqlite"), readOnly: true });
}
