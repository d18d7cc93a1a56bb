// `millrace verify`: exit code 0 when every offset is accounted for once, 1 when not, 2 when that cannot be found out.

import { join } from "node:path";
import { createKafkaLog } from "#lib/eventlog/kafka.ts";
import { kafkaOptions } from "#lib/eventlog/kafka-settings.ts";
import { type EventLog, LogUnavailableError } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { parseConfig } from "#lib/runtime/config.ts";
import { createLogger } from "#lib/runtime/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type Audit, AuditImpossibleError, auditLog, isClean, totalsOf } from "./audit.ts";
import { type VerifyConfig, verifySchema } from "./config.ts";
import { RepairConflictError, type RepairResult, repairGaps } from "./repair.ts";
import { auditText, repairText } from "./report.ts";

const exitClean = 0;
const exitFaulty = 1;
const exitImpossible = 2;

export async function main(argv: readonly string[], env: Record<string, string | undefined>): Promise<number> {
  const outcome = parseConfig(verifySchema, {
    argv,
    env,
    command: "millrace verify",
    summary: "shows from the data that every offset of the log is a row or has a reason why it is none.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
  try {
    const log = await openLog(config);
    try {
      return await verify(config, log, warehouse);
    } finally {
      await log.close();
    }
  } catch (error) {
    const text = explain(error, config);
    if (text === undefined) throw error;
    process.stderr.write(`verify: ${text}\n`);
    return exitImpossible;
  } finally {
    await warehouse.close();
  }
}

async function openLog(config: VerifyConfig): Promise<EventLog> {
  if (config.kafkaBrokers.length > 0) {
    const logger = createLogger({ level: "error", service: "verify", stream: process.stderr });
    return createKafkaLog(kafkaOptions(config, "millrace-verify", logger));
  }
  // Read-only, so that the process that writes the file is not disturbed.
  return createSqliteLog({ file: join(config.dataDir, "log.sqlite"), readOnly: true });
}

async function verify({ json, repair }: VerifyConfig, log: EventLog, warehouse: Warehouse): Promise<number> {
  const runAudit = () => auditLog({ log, warehouse, topic: EVENTS_TOPIC, group: CONSUMER_GROUP });
  let audit = await runAudit();
  let repaired: RepairResult | undefined;
  // Of very many gaps an audit lists a part, so what it lists is repaired until nothing more can be.
  while (repair && totalsOf(audit).missing > 0) {
    const gaps = audit.partitions.map(({ partition, missing }) => ({ partition, ranges: missing.ranges }));
    const round = await repairGaps({ log, warehouse }, audit, gaps);
    repaired = { repaired: round.repaired + (repaired?.repaired ?? 0), lost: round.lost };
    audit = await runAudit();
    if (round.repaired === 0) break;
  }
  process.stdout.write(json ? jsonText(audit, repaired) : `${repaired ? repairText(repaired) : ""}${auditText(audit)}`);
  return isClean(audit) ? exitClean : exitFaulty;
}

function jsonText(audit: Audit, repair: RepairResult | undefined): string {
  return `${JSON.stringify({ clean: isClean(audit), totals: totalsOf(audit), ...audit, repair }, undefined, 2)}\n`;
}

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: VerifyConfig): string | undefined {
  if (error instanceof AuditImpossibleError || error instanceof RepairConflictError) return error.message;
  if (error instanceof LogUnavailableError) {
    const which = config.kafkaBrokers.length > 0 ? "KAFKA_BROKERS" : "DATA_DIR, or KAFKA_BROKERS for a log on Kafka";
    return `${error.message} (the log is named by ${which})`;
  }
  if (!(error instanceof WarehouseError)) return undefined;
  const { clickhouseUrl, clickhouseDatabase } = config;
  const remedy = "name it with CLICKHOUSE_URL and CLICKHOUSE_DATABASE; millrace migrate makes missing tables";
  return `ClickHouse at ${clickhouseUrl}, database ${clickhouseDatabase}: ${error.message}${causeText(error)} (${remedy})`;
}

function causeText({ cause }: Error): string {
  return cause instanceof Error ? `: ${cause.message.trim().split("\n")[0]}` : "";
}
