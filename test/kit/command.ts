// A command of `millrace` called in this process: starting one costs more than most tests ask of it.
import type { Main } from "#lib/process/run-command.ts";
import { COMMANDS } from "../../services/commands.ts";

export interface Answered {
  code: number;
  out: string;
  err: string;
}

/** What `main` answers and prints for these arguments, with nothing but `env` in its environment. */
export async function callCommand(main: Main, args: readonly string[], env: Record<string, string>): Promise<Answered> {
  const printed = { out: "", err: "" };
  const code = await main(args, env, {
    out(text) {
      printed.out += text;
    },
    err(text) {
      printed.err += text;
    },
  });
  return { code, ...printed };
}

/** `main` of the command that `millrace --help` lists under this name. */
export async function mainOf(command: string): Promise<Main> {
  const { main } = (await COMMANDS[command]?.load()) ?? {};
  if (main === undefined) throw new Error(`there is no command ${command}`);
  return main;
}

/** Its settings, all of them. */
export async function helpOf(command: string): Promise<string> {
  const { code, out, err } = await callCommand(await mainOf(command), ["--help", "all"], {});
  if (code !== 0) throw new Error(`millrace ${command} --help ended with ${code}: ${err}`);
  return out;
}
