// Arguments of `millrace status`.
import { z } from "zod";
import { type CommandLine, parseCommand, type TextOutcome } from "#lib/config/command.ts";
import { argument } from "#lib/config/settings.ts";
import { statsTargetSettings } from "#lib/stats-client/stats-client.ts";

const schema = z.object({
  watch: argument().describe("Ask again every two seconds, until Ctrl-C."),
  json: argument().describe("Print JSON: the answer of StatusService."),
  ...statsTargetSettings,
});

export type StatusConfig = z.output<typeof schema>;

const COMMAND_LINE = {
  command: "millrace status",
  summary: "what comes in, what is stored, how far behind it is, what is wrong and what to do.",
  schema,
  forms: ["[--watch] [--json] [settings]"],
  notes:
    "The stats service is asked. Exit code 0: nothing delays or endangers events. 3: something does, and the first lines say what.",
} satisfies CommandLine<typeof schema>;

export type StatusOutcome = { kind: "run"; config: StatusConfig } | TextOutcome;

export function parseStatus(argv: readonly string[], env: Record<string, string | undefined>): StatusOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  return outcome.kind === "text" ? outcome : { kind: "run", config: outcome.config };
}
