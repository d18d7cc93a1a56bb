// `millrace <command>`: looks up the command and hands its arguments on. Only the wanted service is loaded.

import { didYouMean } from "#lib/config/suggest.ts";
import { exitWith } from "#lib/process/lifecycle.ts";
import { packageVersion } from "#lib/process/version.ts";
import { COMMANDS } from "./commands.ts";

function usage(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  return [
    "millrace: events in, stored once each in ClickHouse",
    "",
    "Usage: millrace <command> [settings]",
    "",
    ...Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    `millrace <command> --help lists a command's settings; millrace --version tells the version.`,
    "",
  ].join("\n");
}

async function run(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [name, ...rest] = argv;
  if (name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(usage());
    return 0;
  }
  if (name === "--version" || name === "-v") {
    process.stdout.write(`${packageVersion()}\n`);
    return 0;
  }
  const command = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command) return (await command.load()).main(rest, env);
  const fault =
    name === undefined ? "no command" : `unknown command ${name}.${didYouMean(name, Object.keys(COMMANDS))}`;
  process.stderr.write(`millrace: ${fault}\n\n${usage()}`);
  return 2;
}

// A reader that has seen enough, as in `millrace verify | head`, is no failure; the exit code still tells the result.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

exitWith(await run(process.argv.slice(2), process.env));
