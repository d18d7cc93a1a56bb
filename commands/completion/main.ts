// `millrace completion bash|zsh|fish`: prints a script with which the shell completes commands, settings and their values.
import { z } from "zod";
import { type CommandLine, parseCommand } from "#lib/config/command.ts";
import type { CommandTable } from "#lib/config/command-table.ts";
import { createCommand, type Main } from "#lib/process/run-command.ts";
import { bashScript, fishScript, zshScript } from "./scripts.ts";

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

const schema = z.object({});

const COMMAND_LINE = {
  command: "millrace completion",
  summary: "Prints a script with which the shell completes commands, settings and their values.",
  schema,
  forms: Object.keys(SCRIPTS),
  notes: `bash: put "source <(millrace completion bash)" into ~/.bashrc
zsh:  put "source <(millrace completion zsh)" into ~/.zshrc
fish: millrace completion fish > ~/.config/fish/completions/millrace.fish`,
  subcommands: {
    bash: { operands: { max: 0, fault: "bash takes no argument" } },
    zsh: { operands: { max: 0, fault: "zsh takes no argument" } },
    fish: { operands: { max: 0, fault: "fish takes no argument" } },
  },
} satisfies CommandLine<typeof schema, string>;

/** `describe` answers with what each command can be told. */
export function createCompletion(describe: () => Promise<CommandTable[]>): Main {
  return createCommand({
    name: "completion",
    parse: (argv, env) => parseCommand(COMMAND_LINE, { argv, env }),
    async run({ name }, { out }) {
      out(SCRIPTS[name](await describe()));
      return 0;
    },
  });
}
