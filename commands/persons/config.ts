// Settings and arguments of `millrace persons`. What one call is to do is never read from the environment.
import { z } from "zod";
import { onCommandLine, option } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument, duration, text } from "#lib/config/settings.ts";
import { checkLogin, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

/** Taken as it is: a distinct id may begin with a space, or be one. */
const distinctId = option("text", "a distinct id", (raw) => raw);

const schema = z
  .object({
    distinctId: distinctId.describe("Delete the person that this distinct id belongs to."),
    dryRun: argument().describe("Only show what would be deleted."),
    yes: argument().describe("Delete it; nothing brings it back."),
    json: argument().describe("Print JSON."),
    wait: onCommandLine(duration("1m", { min: 100 })).describe(
      "How long the consumer may make no progress before the command gives up.",
    ),
    dataDir: text("./.millrace").describe("Directory of the standalone; its log is read unless KAFKA_BROKERS is set."),
    logRetention: duration("7d", { min: 60_000 }).describe("How long the standalone keeps records on its log."),
    ...kafkaSettings,
    ...clickhouseSettings,
  })
  .superRefine(checkLogin);

export type PersonsConfig = z.output<typeof schema>;

export type PersonsOutcome =
  | {
      kind: "delete";
      config: PersonsConfig;
      /** Own person id of the id that was named. */
      ownId: string;
    }
  | TextOutcome;

const WHOM = "give either an ID or --distinct-id";
const COMMAND_LINE = {
  command: "millrace persons",
  summary: "deletes a person and everything that is known of it.",
  schema,
  forms: ["delete ID [settings]", "delete --distinct-id TEXT [settings]"],
  notes:
    "An ID is a person id as events.person_id and persons.id have it. A person is deleted whole, with all its distinct ids.",
  subcommands: { delete: { operands: { max: 1, fault: WHOM } } },
} satisfies CommandLine<typeof schema, string>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** The person id of events without a distinct id: nobody. */
const NOBODY = personIdOf("");

export function parsePersons(argv: readonly string[], env: Record<string, string | undefined>): PersonsOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { config, operands } = outcome;
  const [id] = operands;
  const fault = personFault(id, config.distinctId);
  if (fault !== undefined) return usageFault(COMMAND_LINE, fault);
  const ownId = id === undefined ? personIdOf((config.distinctId ?? "").toWellFormed()) : id.toLowerCase();
  return { kind: "delete", config, ownId };
}

function personFault(id: string | undefined, distinct: string | undefined): string | undefined {
  if ((id === undefined) === (distinct === undefined)) return WHOM;
  if (distinct === "") return "events without a distinct id belong to no person";
  if (id === undefined) return undefined;
  if (!UUID.test(id)) return "an ID is a UUID; a distinct id is given with --distinct-id";
  return id === NOBODY ? "the nil UUID is not a person" : undefined;
}
