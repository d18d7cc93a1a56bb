// `millrace persons`: exit code 0 when nothing is left, 1 when something is or was not to be found, 2 for wrong arguments.

import { kafkaOptions } from "#lib/eventlog/kafka/settings.ts";
import { type LogReader, LogUnavailableError } from "#lib/eventlog/log.ts";
import { openLogForReading } from "#lib/eventlog/open-for-reading.ts";
import { type LogRetention, readKafkaRetention } from "#lib/eventlog/retention.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Certificate, certify, isClean } from "#lib/identity/erasure/certificate.ts";
import { type Behind, ConsumerBehindError } from "#lib/identity/erasure/consumed.ts";
import { type DeleteDeps, deletePerson, findPerson, isUnknown } from "#lib/identity/erasure/delete-person.ts";
import { type EraseStep, NoEpochError } from "#lib/identity/erasure/erase.ts";
import { DeletionFailedError } from "#lib/identity/erasure/mutation.ts";
import { PersonTooLargeError } from "#lib/identity/erasure/person.ts";
import { TurnLostError } from "#lib/identity/erasure/turn.ts";
import { createLogger } from "#lib/process/log.ts";
import { printable } from "#lib/process/printable.ts";
import { ownTerminal, type Terminal } from "#lib/process/terminal.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseFault, clusterRefusal } from "#lib/warehouse/clickhouse-fault.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type PersonsConfig, parsePersons } from "./config.ts";
import { certificateJson, certificateText, previewJson, previewText } from "./report.ts";

const exitDone = 0;
const exitFailed = 1;
const exitUsage = 2;

const progressMs = 2000;

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
  const refusal = clusterRefusal(config, "millrace persons delete");
  if (refusal !== undefined) {
    terminal.err(`persons: ${refusal}\n`);
    return exitFailed;
  }
  try {
    await using warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    await using log = await openLogForReading(config, "persons");
    return await deleteAsked(ownId, config, { log, warehouse, terminal });
  } catch (error) {
    const text = explain(error, config);
    if (text === undefined) throw error;
    terminal.err(`persons: ${text}\n`);
    return exitFailed;
  }
}

interface Desk {
  log: LogReader;
  warehouse: Warehouse;
  terminal: Terminal;
}

async function deleteAsked(ownId: string, config: PersonsConfig, desk: Desk): Promise<number> {
  const { log, warehouse, terminal } = desk;
  const found = await findPerson(warehouse, ownId);
  const { preview, unfinished, finished } = found;
  if (isUnknown(found)) {
    terminal.err("persons: nothing is stored of this person; what was sent a moment ago may not be stored yet\n");
    return exitFailed;
  }
  // Asked for again: that nothing is left can be shown as often as somebody wants to see it.
  if (finished) return show(await certify(log, warehouse, finished), config, terminal);
  if (config.dryRun || !config.yes) {
    terminal.out((config.json ? previewJson : previewText)(preview));
    if (unfinished) terminal.err(`erasure ${unfinished.id} of this person is not finished: --yes goes on with it\n`);
    if (config.dryRun) return exitDone;
    terminal.err("persons: nothing was deleted; add --yes to delete it, which cannot be undone\n");
    return exitUsage;
  }
  return show(await deletePerson(erasing(config, desk), ownId), config, terminal);
}

const stepTexts: Readonly<Record<EraseStep, string>> = {
  hide: "hiding what is stored",
  wait: "waiting until the consumer has stored what was on the log",
  "erase again": "erasing what came meanwhile, and the links",
  "rewrite files": "removing what is hidden from the files",
  "compute roll-up": "computing the roll-up without its values",
  certify: "looking for anything left",
};

function erasing({ wait }: PersonsConfig, { log, warehouse, terminal }: Desk): DeleteDeps {
  let shownMs = performance.now();
  let isWaiting = false;
  return {
    ...{ log, warehouse, topic: EVENTS_TOPIC, patienceMs: wait, nowMs: Date.now },
    onWaitForTurn() {
      if (!isWaiting) terminal.err("waiting for another erasure, or until one that was killed is a minute old\n");
      isWaiting = true;
    },
    onStep: (step) => terminal.err(`${stepTexts[step]}\n`),
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

async function show(certificate: Certificate, config: PersonsConfig, terminal: Terminal): Promise<number> {
  terminal.out((config.json ? certificateJson : certificateText)(certificate, await retentionOf(config)));
  return isClean(certificate) ? exitDone : exitFailed;
}

async function retentionOf(config: PersonsConfig): Promise<LogRetention> {
  if (config.kafkaBrokers.length === 0) return { keptMs: config.logRetention, why: "the standalone's LOG_RETENTION" };
  const logger = createLogger({ level: "error", service: "persons", stream: process.stderr });
  return readKafkaRetention(kafkaOptions(config, "millrace-persons", logger), EVENTS_TOPIC);
}

const OWN_ERRORS = [ConsumerBehindError, DeletionFailedError, PersonTooLargeError, NoEpochError, TurnLostError];

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: PersonsConfig): string | undefined {
  const isOwn = OWN_ERRORS.some((kind) => error instanceof kind);
  if (isOwn) return printable((error as Error).message);
  const again = "run the command again: it goes on from here";
  if (error instanceof LogUnavailableError) {
    const which = config.kafkaBrokers.length > 0 ? "KAFKA_BROKERS" : "DATA_DIR, or KAFKA_BROKERS for a log on Kafka";
    return `${error.message} (the log is named by ${which}; ${again})`;
  }
  return error instanceof WarehouseError ? printable(clickhouseFault(error, config, again)) : undefined;
}
