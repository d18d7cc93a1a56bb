// Settings and arguments of `millrace dead-letters`. What one call is to do is never read from the environment, where
// names such as LIMIT or CLASS mean other things.
import { z } from "zod";
import { onCommandLine, option, several } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument, duration, httpUrl, secret, text } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import { checkLogin, kafkaSettings } from "#lib/eventlog/kafka/settings.ts";
import type { ReplayChanges } from "#lib/events/replay-record.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import { PositionError, parsePosition } from "#lib/ledger/position-name.ts";
import type { LetterFilter } from "#lib/letters/letters.ts";
import { clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { parseChanges, SetError } from "./set.ts";

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

const schema = z
  .object({
    ...filterSettings,
    limit: number(1).describe("ls: show at most this many, 50 by default. replay: append at most this many."),
    json: argument().describe("ls, show: print JSON."),
    dryRun: argument().describe("replay: say what would be done, change nothing."),
    set: onCommandLine(several("field=value")).describe(
      "replay: change a field: event, distinct_id, source, value, time, properties or properties.KEY (JSON). Repeatable.",
    ),
    yes: argument().describe("replay: allow more than 100 letters."),
    millraceUrl: httpUrl("http://127.0.0.1:8080").describe(
      "replay: gateway of the standalone, which writes its log unless KAFKA_BROKERS is set.",
    ),
    millraceApiKey: secret().describe("replay: secret key for that gateway, if it has keys."),
    tlsCa: authorities().describe(
      "replay: PEM file with certificates to trust besides the public authorities', for a gateway with https.",
    ),
    dataDir: text("./.millrace").describe(
      "show: directory of the standalone, whose log is read unless KAFKA_BROKERS is set.",
    ),
    ...kafkaSettings,
    ...clickhouseSettings,
  })
  .superRefine(checkLogin);

export type DeadLettersConfig = z.output<typeof schema>;
export type ShowConfig = DeadLettersConfig & { position: string };
export type ReplayConfig = DeadLettersConfig & { positions: readonly string[]; changes: ReplayChanges };

const filters = ["class", "since", "until", "topic", "partition"] as const;
const COMMAND_LINE = {
  command: "millrace dead-letters",
  summary: "what could not be stored: list it, look at one, put it on the log again.",
  schema,
  forms: ["ls [settings]", "show POSITION [settings]", "replay [POSITION...] [--set FIELD=VALUE]... [settings]"],
  notes: `A POSITION is what ls prints, such as 1b2c3d4e:millrace.events:0:17. Without positions replay takes all letters that the
settings leave, oldest first. Letters that are a row already are skipped; replaying twice never makes two rows.`,
  subcommands: {
    ls: {
      operands: { max: 0, fault: "ls takes no positions; show explains one letter" },
      arguments: [...filters, "limit", "json"],
    },
    show: { operands: { min: 1, max: 1, fault: "show takes one position, as ls prints it" }, arguments: ["json"] },
    replay: {
      operands: { max: Number.POSITIVE_INFINITY, fault: "" },
      arguments: [...filters, "limit", "dryRun", "yes", "set"],
    },
  },
} satisfies CommandLine<typeof schema, string>;

export type DeadLettersOutcome =
  | { kind: "ls"; config: DeadLettersConfig }
  | { kind: "show"; config: ShowConfig }
  | { kind: "replay"; config: ReplayConfig }
  | TextOutcome;

export function parseDeadLetters(argv: readonly string[], env: Record<string, string | undefined>): DeadLettersOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { name, config, operands: positions } = outcome;
  try {
    for (const position of positions) parsePosition(position);
    if (name === "replay") return { kind: name, config: { ...config, positions, changes: parseChanges(config.set) } };
  } catch (error) {
    if (error instanceof SetError || error instanceof PositionError) return usageFault(COMMAND_LINE, error.message);
    throw error;
  }
  return name === "ls" ? { kind: name, config } : { kind: name, config: { ...config, position: positions[0] ?? "" } };
}

export function filterOf(config: DeadLettersConfig): LetterFilter {
  const { class: errorClass, since: sinceMs, until: untilMs, topic, partition } = config;
  return { errorClass, sinceMs, untilMs, topic, partition };
}
