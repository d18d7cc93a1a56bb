// Arguments of `millrace tail`.
import { z } from "zod";
import { onCommandLine, option, several } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument } from "#lib/config/settings.ts";
import { printable } from "#lib/process/printable.ts";
import { statsTargetSettings } from "#lib/stats-client/stats-client.ts";

const number = (min: number, max: number) =>
  option("number", `a whole number, ${min} to ${max}`, (raw) => {
    const value = /^\d{1,9}$/.test(raw) ? Number(raw) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  });

const schema = z.object({
  event: onCommandLine(several("name")).describe("Only events of this name. Repeatable."),
  distinctId: onCommandLine(several("id")).describe("Only events of this distinct id. Repeatable."),
  where: onCommandLine(several("property=value")).describe(
    "Only events with this property; values of one property are alternatives. Repeatable.",
  ),
  recent: number(0, 1_000).describe("First show up to this many that are on the log already. Default 10."),
  limit: number(1, 999_999_999).describe("End after this many events."),
  perSecond: number(1, 1_000).describe(
    "Show at most this many a second, and say how many were passed over. Default 50.",
  ),
  json: argument().describe("Print one JSON object a line: what TailService sends."),
  ...statsTargetSettings,
});

export type TailConfig = Omit<z.output<typeof schema>, "where"> & { where: { key: string; values: string[] }[] };

const COMMAND_LINE = {
  command: "millrace tail",
  summary: "events as they reach the log, and when they are stored.",
  schema,
  forms: ["[--event NAME]... [--distinct-id ID]... [--where PROPERTY=VALUE]... [settings]"],
  notes: "For looking, not for counting. The stats service is asked; Ctrl-C ends it.",
} satisfies CommandLine<typeof schema>;

export type TailOutcome = { kind: "run"; config: TailConfig } | TextOutcome;

export function parseTail(argv: readonly string[], env: Record<string, string | undefined>): TailOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const conditions = new Map<string, string[]>();
  for (const text of outcome.config.where) {
    const at = text.indexOf("=");
    if (at < 1)
      return usageFault(COMMAND_LINE, `--where ${printable(text)}: expected a property and a value, such as plan=pro`);
    const key = text.slice(0, at);
    conditions.set(key, [...(conditions.get(key) ?? []), text.slice(at + 1)]);
  }
  const where = [...conditions].map(([key, values]) => ({ key, values }));
  return { kind: "run", config: { ...outcome.config, where } };
}
