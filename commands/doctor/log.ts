// The log as doctor asks it: on Kafka the brokers' own words beside the records.
import { statfs } from "node:fs/promises";
import { createKafkaInspection, type KafkaInspection } from "#lib/eventlog/kafka/inspection.ts";
import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import type { LogReader } from "#lib/eventlog/log.ts";
import { openLogForReading } from "#lib/eventlog/open-for-reading.ts";
import { createLogger } from "#lib/process/log.ts";
import { judgeDisks } from "./clickhouse.ts";
import { type DoctorConfig, isStandalone } from "./config.ts";
import type { Finding, Result } from "./probe.ts";

export interface OpenLog {
  log: LogReader;
  /** Of a log on Kafka. */
  kafka: { inspection: KafkaInspection; brokers: number } | undefined;
}

/** What is opened is handed to `owner`, also when it is not usable. Rejects with LogUnavailableError. */
export async function checkLog(config: DoctorConfig, owner: AsyncDisposableStack): Promise<Result<OpenLog>> {
  const log = await openLogForReading(config, "doctor");
  owner.use(log);
  if (isStandalone(config)) {
    return { status: "ok", what: `the standalone's, in ${config.dataDir}`, value: { log, kafka: undefined } };
  }
  const logger = createLogger({ level: "silent", service: "doctor" });
  const connection = kafkaOptions(config, "millrace-doctor", logger);
  const inspection = createKafkaInspection(connection, config.doctorTimeout);
  owner.defer(() => inspection.close());
  const brokers = await inspection.brokers();
  const account = config.kafkaSaslMechanism === "none" ? "" : ", which know the account";
  const what = `Kafka at ${config.kafkaBrokers.join(", ")}: ${brokers} ${brokers === 1 ? "broker" : "brokers"}${account}`;
  return { status: "ok", what, value: { log, kafka: { inspection, brokers } } };
}

/** Of the standalone. Elsewhere the disks are the brokers', which tell nobody. */
export async function checkDataDir({ dataDir }: Pick<DoctorConfig, "dataDir">): Promise<Finding> {
  const { bavail, blocks, bsize } = await statfs(dataDir);
  return judgeDisks([{ name: dataDir, freeBytes: bavail * bsize, totalBytes: blocks * bsize }]);
}
