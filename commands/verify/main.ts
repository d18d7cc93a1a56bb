// `millrace verify`: exit code 0 when every offset of the log is accounted for once and the roll-up says what its rows say,
// 1 when something is missing, doubled or wrong, 2 when that cannot be found out, 3 when nothing is and some of the log is
// not stored yet.

import { settings } from "#lib/config/command.ts";
import { type LogReader, LogUnavailableError } from "#lib/eventlog/log.ts";
import { openLogForReading } from "#lib/eventlog/open-for-reading.ts";
import { STORED_EVENTS, STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseFault } from "#lib/warehouse/clickhouse-fault.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { acceptLost, NotTheLossError, refuseOtherLoss } from "./accept.ts";
import { AuditImpossibleError } from "./audit.ts";
import { type VerifyConfig, verifySchema } from "./config.ts";
import { RepairConflictError } from "./repair.ts";
import { findingsJson, findingsText, sumsOf } from "./report.ts";
import { noteRun } from "./runs.ts";
import { MisplacedPartitionError } from "./stored.ts";
import { endsOnceStored, type Finding, isSound, isUsed, verifyTopic } from "./verify.ts";

const exitClean = 0;
const exitFaulty = 1;
const exitImpossible = 2;
const exitWaiting = 3;

const parse = settings(
  verifySchema,
  "millrace verify",
  "proves from the data that every offset of the log is a row or is accounted for.",
);

export const main = createCommand({
  name: "verify",
  parse,
  async run({ config }, { owner, out }) {
    const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    owner.use(warehouse);
    const log = await openLogForReading(config, "verify");
    owner.use(log);
    let findings = await findAll(config.wait, config.repair, { log, warehouse });
    if (config.acceptLost > 0) {
      const audits = findings.map(({ audit }) => audit);
      refuseOtherLoss(audits, config.acceptLost);
      for (const audit of audits) await acceptLost(warehouse, audit, Date.now());
      findings = await findAll(0, false, { log, warehouse });
    }
    out((config.json ? findingsJson : findingsText)(findings));
    await noteRun(warehouse, findings, Date.now());
    if (!findings.every(isSound)) return exitFaulty;
    return sumsOf(findings).notStored === 0 || config.allowLag ? exitClean : exitWaiting;
  },
  explain(error, { config }) {
    const text = explain(error, config);
    return text === undefined ? undefined : { text, exitCode: exitImpossible };
  },
});

interface Stores {
  log: LogReader;
  warehouse: Warehouse;
}

async function findAll(wait: number, repair: boolean, { log, warehouse }: Stores): Promise<Finding[]> {
  const findings: Finding[] = [];
  const deadline = performance.now() + wait;
  for (const kind of STORED_TOPICS) {
    const ends = await endsOnceStored(log, kind, deadline - performance.now());
    const finding = await verifyTopic({ log, warehouse, kind, ends }, repair);
    if (kind === STORED_EVENTS || isUsed(finding)) findings.push(finding);
  }
  return findings;
}

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: VerifyConfig): string | undefined {
  const own = [AuditImpossibleError, NotTheLossError, MisplacedPartitionError, RepairConflictError];
  if (own.some((kind) => error instanceof kind)) return (error as Error).message;
  if (error instanceof LogUnavailableError) {
    const which = config.kafkaBrokers.length > 0 ? "KAFKA_BROKERS" : "DATA_DIR, or KAFKA_BROKERS for a log on Kafka";
    return `${error.message} (the log is named by ${which})`;
  }
  return error instanceof WarehouseError ? clickhouseFault(error, config) : undefined;
}
