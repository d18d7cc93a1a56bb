// A command of `millrace` called in this process: starting one costs more than most tests ask of it.
import type { Output } from "#lib/process/output.ts";

export interface Answered {
  code: number;
  out: string;
  err: string;
}

type Main = (argv: readonly string[], env: Record<string, string>, output: Output) => Promise<number>;

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
