// `millrace persons`: exit code 0 when nothing is left, 1 when something is or was not to be found, 2 for wrong arguments.

import { join } from "node:path";
import { createKafkaLog } from "#lib/eventlog/kafka.ts";
import { kafkaOptions } from "#lib/eventlog/kafka-settings.ts";
import { type EventLog, LogUnavailableError } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createErasures } from "#lib/identity/erasures.ts";
import { createLogger } from "#lib/runtime/log.ts";
import { printable } from "#lib/runtime/printable.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type Certificate, certify, isClean } from "./certificate.ts";
import { type PersonsConfig, parsePersons } from "./config.ts";
import { type Behind, ConsumerBehindError } from "./consumed.ts";
import { beginErasure, type EraseDeps, finishErasure, NoEpochError } from "./erase.ts";
import { DeletionFailedError } from "./mutation.ts";
import { PersonTooLargeError } from "./person.ts";
import { isNothing, previewOf } from "./preview.ts";
import { certificateJson, certificateText, type Keeping, previewJson, previewText } from "./report.ts";

const exitDone = 0;
const exitFailed = 1;
const exitUsage = 2;

const progressMs = 2000;

/** Where the command writes to: results, and what a person is told beside them. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
}

const ownTerminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};

export async function main(
  argv: readonly string[],
  env: Record<string, string | undefined>,
  terminal: Terminal = ownTerminal,
): Promise<number> {
  const outcome = parsePersons(argv, env);
  if (outcome.kind === "text") {
    (outcome.exitCode === 0 ? terminal.out : terminal.err)(outcome.text);
    return outcome.exitCode;
  }
  const { config, ownId } = outcome;
  const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
  try {
    const log = await openLog(config);
    try {
      return await deletePerson(ownId, config, { log, warehouse, terminal });
    } finally {
      await log.close();
    }
  } catch (error) {
    const text = explain(error, config);
    if (text === undefined) throw error;
    terminal.err(`persons: ${text}\n`);
    return exitFailed;
  } finally {
    await warehouse.close();
  }
}

async function openLog(config: PersonsConfig): Promise<EventLog> {
  if (config.kafkaBrokers.length > 0) {
    const logger = createLogger({ level: "error", service: "persons", stream: process.stderr });
    return createKafkaLog(kafkaOptions(config, "millrace-persons", logger));
  }
  // Read-only, so that the process that writes the file is not disturbed.
  return createSqliteLog({ file: join(config.dataDir, "log.sqlite"), readOnly: true });
}

interface Desk {
  log: EventLog;
  warehouse: Warehouse;
  terminal: Terminal;
}

async function deletePerson(ownId: string, config: PersonsConfig, desk: Desk): Promise<number> {
  const { log, warehouse, terminal } = desk;
  const known = await createErasures(warehouse).newestOf(ownId);
  const unfinished = known?.finishedAtMs === undefined ? known : undefined;
  const preview = await previewOf(warehouse, ownId);
  if (unfinished === undefined && isNothing(preview)) {
    // Asked for again: that nothing is left can be shown as often as somebody wants to see it.
    if (known) return show(await certify(log, warehouse, known), config, terminal);
    terminal.err("persons: nothing is stored of this person; what was sent a moment ago may not be stored yet\n");
    return exitFailed;
  }
  if (config.dryRun || !config.yes) {
    terminal.out((config.json ? previewJson : previewText)(preview));
    if (unfinished) terminal.err(`erasure ${unfinished.id} of this person is not finished: --yes goes on with it\n`);
    if (config.dryRun) return exitDone;
    terminal.err("persons: nothing was deleted; add --yes to delete it, which cannot be undone\n");
    return exitUsage;
  }
  const deps = erasing(config, desk);
  const erasure = unfinished ?? (await beginErasure(deps, ownId));
  return show(await finishErasure(deps, erasure), config, terminal);
}

function erasing({ wait }: PersonsConfig, { log, warehouse, terminal }: Desk): EraseDeps {
  let shownMs = performance.now();
  return {
    ...{ log, warehouse, topic: EVENTS_TOPIC, patienceMs: wait, nowMs: Date.now },
    onStep: (what) => terminal.err(`${what}\n`),
    onLook(behind) {
      if (behind.length === 0 || performance.now() - shownMs < progressMs) return;
      shownMs = performance.now();
      terminal.err(`  ${behind.map(behindText).join(", ")}\n`);
    },
  };
}

function behindText({ partition, next, end }: Behind): string {
  return `partition ${partition} at offset ${next} of ${end}`;
}

function show(certificate: Certificate, config: PersonsConfig, terminal: Terminal): number {
  const keeping: Keeping = { retentionMs: config.kafkaBrokers.length > 0 ? undefined : config.logRetention };
  terminal.out((config.json ? certificateJson : certificateText)(certificate, keeping));
  return isClean(certificate) ? exitDone : exitFailed;
}

const OWN_ERRORS = [ConsumerBehindError, DeletionFailedError, PersonTooLargeError, NoEpochError];

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: PersonsConfig): string | undefined {
  const isOwn = OWN_ERRORS.some((kind) => error instanceof kind);
  if (isOwn) return printable((error as Error).message);
  const again = "run the command again: it goes on from here";
  if (error instanceof LogUnavailableError) {
    const which = config.kafkaBrokers.length > 0 ? "KAFKA_BROKERS" : "DATA_DIR, or KAFKA_BROKERS for a log on Kafka";
    return `${error.message} (the log is named by ${which}; ${again})`;
  }
  if (!(error instanceof WarehouseError)) return undefined;
  const { clickhouseUrl, clickhouseDatabase } = config;
  const cause = error.cause instanceof Error ? `: ${error.cause.message.trim().split("\n")[0]}` : "";
  const remedy = "name it with CLICKHOUSE_URL and CLICKHOUSE_DATABASE; millrace migrate makes missing tables";
  return `ClickHouse at ${clickhouseUrl}, database ${clickhouseDatabase}: ${printable(error.message + cause)} (${remedy}; ${again})`;
}
