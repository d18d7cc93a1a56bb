// Arguments of `millrace where`.
import { z } from "zod";
import { option } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument } from "#lib/config/settings.ts";
import { statsTargetSettings } from "#lib/stats-client/stats-client.ts";

const schema = z.object({
  file: option("file", "a file name, or - for standard input", (raw) => raw || undefined).describe(
    "Reads ids from this file, one a line; of a line with more on it the first word. -: standard input.",
  ),
  json: argument().describe("Print one JSON object a line: the receipts as ReceiptService answers them."),
  ...statsTargetSettings,
});

export type WhereConfig = z.output<typeof schema> & { ids: readonly string[] };

const COMMAND_LINE = {
  command: "millrace where",
  summary: "what became of an event: stored, waiting, repeated, refused, erased, or never seen.",
  schema,
  forms: ["ID... [settings]", "--file FILE [settings]"],
  notes: `An ID is the UUID of an event, or a position on the log such as 1b2c3d4e:millrace.events:0:17. The stats service is asked.
Exit code 0: every event is stored, or a duplicate of one that is, or erased. 3: at least one is not, and the line says why.`,
  operands: { max: Number.POSITIVE_INFINITY, fault: "" },
} satisfies CommandLine<typeof schema>;

export type WhereOutcome = { kind: "run"; config: WhereConfig } | TextOutcome;

export function parseWhere(argv: readonly string[], env: Record<string, string | undefined>): WhereOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { config, operands: ids } = outcome;
  if (ids.length === 0 && config.file === undefined)
    return usageFault(COMMAND_LINE, "where is what? Give an ID, or --file FILE");
  return { kind: "run", config: { ...config, ids } };
}
