// Settings and arguments of `millrace properties`. What one call is to do is never read from the environment, where names
// such as LIMIT or EVENT mean other things.
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { argument, count, type Setting, settingInfo, text } from "#lib/config/settings.ts";
import { kebabCase } from "#lib/config/sources.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { PROPERTY_TYPES, type PropertyType } from "#lib/warehouse/promoted-columns.ts";

/** The setting as one that only an argument can set. */
function own<T>(setting: Setting<T>): Setting<T> {
  const info = settingInfo.get(setting);
  return setting.register(settingInfo, { expected: "", ...info, argumentOnly: true });
}

const schema = z.object({
  event: own(text()).describe("ls, promote: look at events of this name only."),
  days: own(count(7, { min: 1, max: 3650 })).describe("ls, promote: look at events of so many days."),
  limit: own(count(50, { min: 1, max: 10_000 })).describe("ls: show at most this many keys."),
  json: argument().describe("ls: print JSON."),
  ...clickhouseSettings,
});

export type PropertiesConfig = z.output<typeof schema>;

export type PropertiesOutcome =
  | { kind: "ls"; config: PropertiesConfig }
  | { kind: "promote"; config: PropertiesConfig; key: string; type: PropertyType | undefined }
  | { kind: "demote"; config: PropertiesConfig; key: string }
  | { kind: "text"; text: string; exitCode: 0 | 2 };

const COMMAND = "millrace properties";
const SUMMARY = "which properties events have; typed columns of the frequent ones.";
const USAGE = `Usage: ${COMMAND} ls [settings]
       ${COMMAND} promote KEY [TYPE] [settings]
       ${COMMAND} demote KEY [settings]

A KEY is one of the first level, as ls prints it between its quotes. TYPE is one of ${PROPERTY_TYPES.join(", ")};
without it the events tell. The column of $browser is p_browser, in events_raw and in the view events.`;

const SUBCOMMANDS = ["ls", "promote", "demote"] as const;
type Subcommand = (typeof SUBCOMMANDS)[number];
/** Arguments that each of them has, with what counts as not given. */
const ARGUMENTS: Record<Subcommand, readonly string[]> = {
  ls: ["event", "days", "limit", "json"],
  promote: ["event", "days"],
  demote: [],
};

export function parseProperties(argv: readonly string[], env: Record<string, string | undefined>): PropertiesOutcome {
  const [first = "", ...rest] = argv;
  if (argv.some((each) => each === "--help" || each === "-h") || first === "help") return help(env);
  const name = SUBCOMMANDS.find((each) => each === first);
  if (name === undefined) return usageFault(first === "" ? "ls, promote or demote?" : unknown(first));
  const begin = rest.findIndex((each) => each.startsWith("--"));
  const operands = begin < 0 ? rest : rest.slice(0, begin);
  const foreign = rest.slice(operands.length).find((each) => isForeign(name, each));
  if (foreign !== undefined) return usageFault(`${foreign} is not for ${name}`);
  if (name !== "ls" && (operands[0] ?? "") === "") return usageFault(`${name} takes a KEY, before the settings`);
  const settings = { argv: rest.slice(operands.length), env, command: `${COMMAND} ${name}`, summary: SUMMARY };
  const outcome = parseConfig(schema, settings);
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  return withOperands(name, operands, outcome.config);
}

function withOperands(name: Subcommand, operands: readonly string[], config: PropertiesConfig): PropertiesOutcome {
  const [key = "", typeName, ...more] = operands;
  if (name === "ls") return operands.length === 0 ? { kind: name, config } : usageFault("ls takes no KEY");
  if (name === "demote") {
    return typeName === undefined
      ? { kind: name, config, key }
      : usageFault("demote takes one KEY; quote one with spaces");
  }
  if (more.length > 0) return usageFault("promote takes one KEY and one TYPE; quote a KEY with spaces");
  const type = PROPERTY_TYPES.find((each) => each.toLowerCase() === typeName?.toLowerCase());
  if (typeName !== undefined && type === undefined) {
    return usageFault(`the TYPE must be one of ${PROPERTY_TYPES.join(", ")}.${didYouMean(typeName, PROPERTY_TYPES)}`);
  }
  return { kind: name, config, key, type };
}

function isForeign(name: Subcommand, given: string): boolean {
  const flag = given.split("=", 1)[0] ?? "";
  const all = Object.values(ARGUMENTS).flat();
  return all.some((key) => flag === `--${kebabCase(key)}` && !ARGUMENTS[name].includes(key));
}

function help(env: Record<string, string | undefined>): PropertiesOutcome {
  const outcome = parseConfig(schema, { argv: ["--help"], env, command: COMMAND, summary: SUMMARY });
  const settings = outcome.kind === "config" ? "" : outcome.text;
  return { kind: "text", text: settings.replace(/^Usage: .*$/m, () => USAGE), exitCode: 0 };
}

function unknown(name: string): string {
  return `unknown command ${JSON.stringify(name.slice(0, 40))}.${didYouMean(name, SUBCOMMANDS)}`;
}

function usageFault(fault: string): PropertiesOutcome {
  return { kind: "text", text: `${COMMAND}: ${fault}\n${USAGE}\n`, exitCode: 2 };
}
