// Settings and arguments of `millrace persons`. What one call is to do is never read from the environment.
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { argument, duration, type Setting, settingInfo, text } from "#lib/config/settings.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";

/** Taken as it is: a distinct id may begin with a space, or be one. */
const distinctId: Setting<string | undefined> = z
  .unknown()
  .transform((raw) => (raw === undefined ? undefined : String(raw)))
  .register(settingInfo, { expected: "a distinct id", placeholder: "text", argumentOnly: true });

/** The setting as one that only an argument can set. */
function own<T>(setting: Setting<T>): Setting<T> {
  const info = settingInfo.get(setting);
  return setting.register(settingInfo, { expected: "", ...info, argumentOnly: true });
}

const schema = z.object({
  distinctId: distinctId.describe("Delete the person that this distinct id belongs to."),
  dryRun: argument().describe("Only show what would be deleted."),
  yes: argument().describe("Delete it; nothing brings it back."),
  json: argument().describe("Print JSON."),
  wait: own(duration("1m", { min: 100 })).describe(
    "How long the consumer may stand still before the command gives up.",
  ),
  dataDir: text("./.millrace").describe("Directory of the standalone; its log is read unless KAFKA_BROKERS is set."),
  logRetention: duration("7d", { min: 60_000 }).describe("How long the standalone keeps records on its log."),
  ...kafkaSettings,
  ...clickhouseSettings,
});

export type PersonsConfig = z.output<typeof schema>;

export type PersonsOutcome =
  | {
      kind: "delete";
      config: PersonsConfig;
      /** Own person id of the id that was named. */
      ownId: string;
    }
  | { kind: "text"; text: string; exitCode: 0 | 2 };

const COMMAND = "millrace persons";
const SUMMARY = "deletes a person and everything that is known of it.";
const USAGE = `Usage: ${COMMAND} delete ID [settings]
       ${COMMAND} delete --distinct-id TEXT [settings]

An ID is a person id as events.person_id and persons.id have it. A person is deleted whole, with all its distinct ids.`;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** The person id of events without a distinct id: nobody. */
const NOBODY = personIdOf("");

export function parsePersons(argv: readonly string[], env: Record<string, string | undefined>): PersonsOutcome {
  const [first = "", ...rest] = argv;
  if (argv.some((each) => each === "--help" || each === "-h") || first === "help") return help(env);
  if (first !== "delete") return usageFault(first === "" ? "delete whom?" : unknown(first));
  const [id] = rest;
  const operands = id === undefined || id.startsWith("--") ? [] : [id];
  const settings = { argv: rest.slice(operands.length), env, command: `${COMMAND} delete`, summary: SUMMARY };
  const outcome = parseConfig(schema, settings);
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  return withPerson(operands[0], outcome.config);
}

function withPerson(id: string | undefined, config: PersonsConfig): PersonsOutcome {
  if ((id === undefined) === (config.distinctId === undefined)) {
    return usageFault("give either an ID, before the settings, or --distinct-id");
  }
  if (config.distinctId === "") return usageFault("events without a distinct id are nobody's");
  if (id === undefined) return { kind: "delete", config, ownId: personIdOf((config.distinctId ?? "").toWellFormed()) };
  if (!UUID.test(id)) return usageFault("an ID is a UUID; a distinct id is given with --distinct-id");
  if (id === NOBODY) return usageFault("the nil UUID is nobody");
  return { kind: "delete", config, ownId: id.toLowerCase() };
}

function help(env: Record<string, string | undefined>): PersonsOutcome {
  const outcome = parseConfig(schema, { argv: ["--help"], env, command: COMMAND, summary: SUMMARY });
  const settings = outcome.kind === "config" ? "" : outcome.text;
  return { kind: "text", text: settings.replace(/^Usage: .*$/m, () => USAGE), exitCode: 0 };
}

function unknown(name: string): string {
  return `unknown command ${JSON.stringify(name.slice(0, 40))}.${didYouMean(name, ["delete"])}`;
}

function usageFault(fault: string): PersonsOutcome {
  return { kind: "text", text: `${COMMAND}: ${fault}\n${USAGE}\n`, exitCode: 2 };
}
