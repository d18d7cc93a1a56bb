// `millrace init`: writes a settings file that changes nothing yet: every setting, explained, commented out.
import { writeFile } from "node:fs/promises";
import { z } from "zod";
import { onCommandLine } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand } from "#lib/config/command.ts";
import type { CommandTable, SettingRow } from "#lib/config/command-table.ts";
import { text } from "#lib/config/settings.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { createCommand, type Main } from "#lib/process/run-command.ts";

const schema = z.object({
  file: onCommandLine(text("millrace.yaml")).describe("The file to write. One that exists is left as it is."),
});

const COMMAND_LINE = {
  command: "millrace init",
  summary: "Writes a settings file for a command, with every setting explained and commented out.",
  schema,
  forms: ["[COMMAND] [--file millrace.yaml]"],
  notes: "COMMAND is start, gateway, consumer and so on; start when it is left out.",
  operands: { max: 1, fault: "takes the name of one command" },
} satisfies CommandLine<typeof schema>;

/** `describe` answers with what a command of `names` can be told. */
export function createInit(describe: (name: string) => Promise<CommandTable>, names: readonly string[]): Main {
  return createCommand({
    name: "init",
    parse: (argv, env) => parseCommand(COMMAND_LINE, { argv, env }),
    async run({ config: { file }, operands: [command = "start"] }, { out, say }) {
      if (!names.includes(command)) {
        say(`init: there is no command ${command}.${didYouMean(command, names)}`);
        return 2;
      }
      await writeFile(file, settingsFile(await describe(command), file), { flag: "wx", mode: 0o600 });
      out(`${file} is written. Edit it, then: millrace ${command} --config-file ${file}\n`);
      return 0;
    },
    explain(error, { config: { file } }) {
      if (!(error instanceof Error && "code" in error && "syscall" in error)) return undefined;
      if (error.code === "EEXIST") return `${file} exists already: remove it, or name another one with --file`;
      return `cannot write ${file}: ${error.message}`;
    },
  });
}

function settingsFile({ name, settings }: CommandTable, file: string): string {
  const lasting = settings.filter(({ key }) => key !== undefined);
  const first = lasting.filter(({ isFirst }) => isFirst);
  const others = lasting.filter(({ isFirst }) => !isFirst);
  return [
    `# Settings of millrace ${name}. Remove the "# " before those that you change, then:`,
    `#   millrace ${name} --config-file ${file}`,
    "# What stands here are the defaults. A flag or an environment variable wins over this file.",
    "",
    ...first.flatMap(settingLines),
    ...(others.length === 0 ? [] : ["# ---- Leave these as they are unless you know why ----", ""]),
    ...others.flatMap(settingLines),
  ].join("\n");
}

function settingLines({ key, meaning, isSecret, default: value }: SettingRow): string[] {
  const secret = isSecret ? " A secret: keep this file to yourself, or set it in the environment." : "";
  return [`# ${meaning}${secret}`, `# ${key}:${value === undefined || isSecret ? "" : ` ${value}`}`, ""];
}
