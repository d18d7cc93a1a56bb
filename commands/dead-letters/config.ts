// Settings and arguments of `millrace dead-letters`. What one call is to do is never read from the environment, where
// names such as LIMIT or CLASS mean other things.
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { argument, duration, httpUrl, type Setting, secret, settingInfo, text } from "#lib/config/settings.ts";
import { kebabCase } from "#lib/config/sources.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import { kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import type { ReplayChanges } from "#lib/events/replay-record.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import { printable } from "#lib/process/printable.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import type { LetterFilter } from "./letters.ts";
import { PositionError, parsePosition } from "./position.ts";
import { parseChanges, SetError } from "./set.ts";

/** One argument with a value; undefined when it is not given. */
function option<T>(
  placeholder: string,
  expected: string,
  read: (raw: string) => T | undefined,
): Setting<T | undefined> {
  const schema = z.unknown().transform((raw, context): T | undefined => {
    if (raw === undefined || raw === null) return undefined;
    const value = read(String(raw));
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
  return schema.register(settingInfo, { expected, placeholder, argumentOnly: true });
}

const word = (placeholder: string) => option(placeholder, "text that is not blank", (raw) => raw.trim() || undefined);
const number = (min: number) =>
  option("number", `a whole number, ${min} or more`, (raw) => {
    const value = /^\d+$/.test(raw) ? Number(raw) : Number.NaN;
    return Number.isSafeInteger(value) && value >= min ? value : undefined;
  });
const moment = () =>
  option("time", "a time such as 2026-03-27T12:00:00Z, 2026-03-27, or 2h for two hours ago", parseMoment);

/** Milliseconds since 1970. */
function parseMoment(raw: string): number | undefined {
  const us = parseRfc3339(/^\d{4}-\d\d-\d\d$/.test(raw) ? `${raw}T00:00:00Z` : raw);
  if (us !== undefined) return us / 1000;
  const ago = duration().safeParse(raw);
  return ago.success && ago.data !== undefined ? Date.now() - ago.data : undefined;
}

const filterSettings = {
  class: word("class").describe("Only letters of this error class."),
  since: moment().describe("Only letters the log took at or after this time."),
  until: moment().describe("Only letters the log took before this time."),
  topic: word("topic").describe("Only letters of this topic."),
  partition: number(0).describe("Only letters of this partition."),
};

const schema = z.object({
  ...filterSettings,
  limit: number(1).describe("ls: show at most this many, 50 by default. replay: append at most this many."),
  json: argument().describe("ls, show: print JSON."),
  dryRun: argument().describe("replay: say what would be done, change nothing."),
  set: word("field=value").describe(
    "replay: change a field: event, distinct_id, source, value, time, properties or properties.KEY (JSON). Repeatable.",
  ),
  yes: argument().describe("replay: go on although it is more than 100 letters."),
  millraceUrl: httpUrl("http://127.0.0.1:8080").describe(
    "replay: gateway of the standalone, the way to its log unless KAFKA_BROKERS is set.",
  ),
  millraceApiKey: secret().describe("replay: secret key for that gateway, where it has keys."),
  tlsCa: authorities().describe(
    "replay: PEM file with certificates to trust beside the public authorities, for a gateway with https.",
  ),
  dataDir: text("./.millrace").describe(
    "show: directory of the standalone, whose log is read unless KAFKA_BROKERS is set.",
  ),
  ...kafkaSettings,
  ...clickhouseSettings,
});

export type DeadLettersConfig = z.output<typeof schema>;
export type ShowConfig = DeadLettersConfig & { position: string };
export type ReplayConfig = DeadLettersConfig & { positions: readonly string[]; changes: ReplayChanges };

const filters = ["class", "since", "until", "topic", "partition"] as const;
/** Arguments that each command has. Settings are for all of them, so that one configuration file will do. */
const ARGUMENTS = {
  ls: [...filters, "limit", "json"],
  show: ["json"],
  replay: [...filters, "limit", "dryRun", "yes", "set"],
} as const satisfies Record<string, readonly (keyof DeadLettersConfig)[]>;
type Subcommand = keyof typeof ARGUMENTS;

export type DeadLettersOutcome =
  | { kind: "ls"; config: DeadLettersConfig }
  | { kind: "show"; config: ShowConfig }
  | { kind: "replay"; config: ReplayConfig }
  | { kind: "text"; text: string; exitCode: 0 | 2 };

const COMMAND = "millrace dead-letters";
const SUBCOMMANDS = Object.keys(ARGUMENTS) as Subcommand[];
const SUMMARY = "what could not be stored: list it, look at one, put it on the log again.";
const USAGE = `Usage: ${COMMAND} ls [settings]
       ${COMMAND} show POSITION [settings]
       ${COMMAND} replay [POSITION...] [--set FIELD=VALUE]... [settings]

A POSITION is what ls prints, such as 1b2c3d4e:millrace.events:0:17. Without positions replay takes all letters that the
settings leave, oldest first. Letters that are a row already are skipped; replaying twice never makes two rows.`;

export function parseDeadLetters(argv: readonly string[], env: Record<string, string | undefined>): DeadLettersOutcome {
  const [first = "", ...rest] = argv;
  const name = SUBCOMMANDS.find((each) => each === first);
  if (argv.some((each) => each === "--help" || each === "-h") || first === "help") return help(env);
  if (name === undefined) return withoutSubcommand(argv);
  const { positions, settings, others } = takeOwn(rest);
  const outcome = parseConfig(schema, { argv: others, env, command: `${COMMAND} ${name}`, summary: SUMMARY });
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  const { config } = outcome;
  const foreign = foreignArgument(name, settings.length > 0 ? { ...config, set: settings[0] } : config);
  if (foreign !== undefined) return usageFault(`--${kebabCase(foreign)} is not for ${name}`);
  try {
    for (const position of positions) parsePosition(position);
    if (name === "replay") return { kind: name, config: { ...config, positions, changes: parseChanges(settings) } };
  } catch (error) {
    if (error instanceof SetError || error instanceof PositionError) return usageFault(error.message);
    throw error;
  }
  if (name === "ls") {
    return positions.length > 0
      ? usageFault("ls takes no positions; show explains one letter")
      : { kind: name, config };
  }
  const [position, more] = positions;
  return position === undefined || more !== undefined
    ? usageFault("show takes one position, as ls prints it")
    : { kind: name, config: { ...config, position } };
}

function foreignArgument(name: Subcommand, config: DeadLettersConfig): string | undefined {
  const own: readonly string[] = ARGUMENTS[name];
  const all = new Set<keyof DeadLettersConfig>(Object.values(ARGUMENTS).flat());
  return [...all].find((key) => !own.includes(key) && config[key] !== undefined && config[key] !== false);
}

export function filterOf(config: DeadLettersConfig): LetterFilter {
  const { class: errorClass, since: sinceMs, until: untilMs, topic, partition } = config;
  return { errorClass, sinceMs, untilMs, topic, partition };
}

function help(env: Record<string, string | undefined>): DeadLettersOutcome {
  const outcome = parseConfig(schema, { argv: ["--help"], env, command: COMMAND, summary: SUMMARY });
  const settings = outcome.kind === "config" ? "" : outcome.text;
  return { kind: "text", text: settings.replace(/^Usage: .*$/m, USAGE), exitCode: 0 };
}

function withoutSubcommand(argv: readonly string[]): DeadLettersOutcome {
  const [name] = argv;
  if (name === undefined) return usageFault("ls, show or replay?");
  if (!name.startsWith("-")) return usageFault(`unknown command ${printable(name)}.${didYouMean(name, SUBCOMMANDS)}`);
  // A mistyped setting is named before the command is asked for.
  const outcome = parseConfig(schema, { argv, env: {}, command: COMMAND, summary: SUMMARY });
  return outcome.kind === "faults"
    ? { kind: "text", text: outcome.text, exitCode: 2 }
    : usageFault("ls, show or replay?");
}

function usageFault(fault: string): DeadLettersOutcome {
  return { kind: "text", text: `${COMMAND}: ${fault}\n${USAGE}\n`, exitCode: 2 };
}

/** parseConfig knows settings that are given once; positions and every --set are taken out before. */
function takeOwn(argv: readonly string[]): { positions: string[]; settings: string[]; others: string[] } {
  const positions: string[] = [];
  const settings: string[] = [];
  const others: string[] = [];
  for (let index = 0; index < argv.length; index += 1) {
    const given = argv[index] ?? "";
    const next = argv[index + 1];
    if (!given.startsWith("--")) positions.push(given);
    else if (given.startsWith("--set=")) settings.push(given.slice("--set=".length));
    else if (given === "--set" && next !== undefined) {
      settings.push(next);
      index += 1;
    } else {
      others.push(given);
      const takesValue = !given.includes("=") && !isBoolean(given.replace(/^--(no-)?/, ""));
      if (!takesValue || next === undefined) continue;
      others.push(next);
      index += 1;
    }
  }
  return { positions, settings, others };
}

function isBoolean(flag: string): boolean {
  if (flag === "check-config" || flag === "print-config") return true;
  const key = flag.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const field = (schema.shape as Record<string, z.ZodType>)[key];
  const info = field && settingInfo.get(field);
  // What is unknown is refused in any case; its value, if it has one, must not be taken for a position.
  return info !== undefined && info.placeholder === undefined;
}
