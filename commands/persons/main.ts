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
import { type CommandRun, createCommand } from "#lib/process/run-command.ts";
import { atMostEvery } from "#lib/process/waiting.ts";
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

export const main = createCommand({
  name: "persons",
  parse: parsePersons,
  async run({ config, ownId }, { owner, out, say }) {
    const refusal = clusterRefusal(config, "millrace persons delete");
    if (refusal !== undefined) {
      say(`persons: ${refusal}`);
      return exitFailed;
    }
    const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
    owner.use(warehouse);
    const log = await openLogForReading(config, "persons");
    owner.use(log);
    return deleteAsked(ownId, config, { log, warehouse, out, say });
  },
  explain: (error, { config }) => explain(error, config),
});

interface Tools extends Pick<CommandRun, "out" | "say"> {
  log: LogReader;
  warehouse: Warehouse;
}

async function deleteAsked(ownId: string, config: PersonsConfig, tools: Tools): Promise<number> {
  const { log, warehouse, out, say } = tools;
  const found = await findPerson(warehouse, ownId);
  const { preview, unfinished, finished } = found;
  if (isUnknown(found)) {
    say("persons: nothing is stored of this person; what was sent a moment ago may not be stored yet");
    return exitFailed;
  }
  // Asked for again: that nothing is left can be shown as often as somebody wants to see it.
  if (finished) return show(await certify(log, warehouse, finished), config, out);
  if (config.dryRun || !config.yes) {
    out((config.json ? previewJson : previewText)(preview));
    if (unfinished) say(`erasure ${unfinished.id} of this person is not finished: --yes continues it`);
    if (config.dryRun) return exitDone;
    say("persons: nothing was deleted; add --yes to delete it, which cannot be undone");
    return exitUsage;
  }
  return show(await deletePerson(erasing(config, tools), ownId), config, out);
}

const stepTexts: Readonly<Record<EraseStep, string>> = {
  hide: "hiding what is stored",
  wait: "waiting until the consumer has stored what was on the log",
  "erase again": "erasing what came meanwhile, and the links",
  "rewrite files": "removing what is hidden from the files",
  "compute roll-up": "computing the roll-up without its values",
  certify: "looking for anything left",
};

function erasing({ wait }: PersonsConfig, { log, warehouse, say }: Tools): DeleteDeps {
  const isDue = atMostEvery(progressMs, false);
  let isWaiting = false;
  return {
    ...{ log, warehouse, topic: EVENTS_TOPIC, patienceMs: wait, nowMs: Date.now },
    onWaitForTurn() {
      if (!isWaiting) say("waiting for another erasure, or until one that was killed is a minute old");
      isWaiting = true;
    },
    onStep: (step) => say(`${stepTexts[step]}`),
    onLook(behind) {
      if (behind.length > 0 && isDue()) say(`  ${behind.map(behindText).join(", ")}`);
    },
  };
}

function behindText({ partition, next, end }: Behind): string {
  return `partition ${partition} at offset ${next} of ${end}`;
}

async function show(certificate: Certificate, config: PersonsConfig, out: CommandRun["out"]): Promise<number> {
  out((config.json ? certificateJson : certificateText)(certificate, await retentionOf(config)));
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
  const again = "run the command again: it continues from here";
  if (error instanceof LogUnavailableError) {
    const which = config.kafkaBrokers.length > 0 ? "KAFKA_BROKERS" : "DATA_DIR, or KAFKA_BROKERS for a log on Kafka";
    return `${error.message} (the log is named by ${which}; ${again})`;
  }
  return error instanceof WarehouseError ? printable(clickhouseFault(error, config, again)) : undefined;
}
