// Settings and arguments of `millrace properties`. What one call is to do is never read from the environment, where names
// such as LIMIT or EVENT mean other things.
import { z } from "zod";
import { onCommandLine } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument, count, text } from "#lib/config/settings.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { PROPERTY_TYPES, type PropertyType } from "#lib/warehouse/promoted-columns.ts";

const schema = z.object({
  event: onCommandLine(text()).describe("ls, promote: look at events of this name only."),
  days: onCommandLine(count(7, { min: 1, max: 3650 })).describe("ls, promote: look at events of so many days."),
  limit: onCommandLine(count(50, { min: 1, max: 10_000 })).describe("ls: show at most this many keys."),
  json: argument().describe("ls: print JSON."),
  dataDir: text("./.millrace").describe("Directory of the standalone, if it is one."),
  ...clickhouseSettings,
});

export type PropertiesConfig = z.output<typeof schema>;

export type PropertiesOutcome =
  | { kind: "ls"; config: PropertiesConfig }
  | { kind: "promote"; config: PropertiesConfig; key: string; type: PropertyType | undefined }
  | { kind: "demote"; config: PropertiesConfig; key: string }
  | TextOutcome;

const COMMAND_LINE = {
  command: "millrace properties",
  summary: "which properties events have; typed columns of the frequent ones.",
  schema,
  forms: ["ls [settings]", "promote KEY [TYPE] [settings]", "demote KEY [settings]"],
  notes: `A KEY is one of the first level, as ls prints it between its quotes. TYPE is one of ${PROPERTY_TYPES.join(", ")};
without it the events tell. The column of $browser is p_browser, in events_raw and in the view events.`,
  subcommands: {
    ls: { operands: { max: 0, fault: "ls takes no KEY" }, arguments: ["event", "days", "limit", "json"] },
    promote: {
      operands: { min: 1, max: 2, fault: "promote takes a KEY and may take a TYPE; quote a KEY with spaces" },
      arguments: ["event", "days"],
    },
    demote: { operands: { min: 1, max: 1, fault: "demote takes one KEY; quote one with spaces" } },
  },
} satisfies CommandLine<typeof schema, string>;

export function parseProperties(argv: readonly string[], env: Record<string, string | undefined>): PropertiesOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { name, config, operands } = outcome;
  if (name === "ls") return { kind: name, config };
  const [key = "", typeName] = operands;
  if (key === "") return usageFault(COMMAND_LINE, `${name} takes a KEY, which is not empty`);
  if (name === "demote") return { kind: name, config, key };
  const type = PROPERTY_TYPES.find((each) => each.toLowerCase() === typeName?.toLowerCase());
  if (typeName === undefined || type !== undefined) return { kind: name, config, key, type };
  const fault = `the TYPE must be one of ${PROPERTY_TYPES.join(", ")}.${didYouMean(typeName, PROPERTY_TYPES)}`;
  return usageFault(COMMAND_LINE, fault);
}
