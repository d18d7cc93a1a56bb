// `millrace <command>`: looks up the command and hands its arguments on. Only the wanted service is loaded.

import { didYouMean } from "#lib/config/suggest.ts";
import { exitWith } from "#lib/process/lifecycle.ts";
import type { Main } from "#lib/process/run-command.ts";
import { packageVersion } from "#lib/process/version.ts";

/** What each main.ts exports. */
interface CommandModule {
  main: Main;
}

interface Command {
  summary: string;
  load(): Promise<CommandModule>;
}

const COMMANDS: Record<string, Command> = {
  start: {
    summary: "everything in one process: gateway, relay, consumer, stats and ClickHouse; nothing else to install",
    load: () => import("./standalone/main.ts"),
  },
  gateway: {
    summary: "takes events in over HTTP and RPC and puts them on the log",
    load: () => import("./gateway/main.ts"),
  },
  consumer: { summary: "brings events from the log into ClickHouse", load: () => import("./consumer/main.ts") },
  relay: {
    summary: "polls agents for their values and puts the points on the log",
    load: () => import("./relay/main.ts"),
  },
  stats: {
    summary: "answers history queries, shows live values, evaluates alerts",
    load: () => import("./stats/main.ts"),
  },
  agent: {
    summary: "measures this host and answers the relay's polls",
    load: () => import("./agent/main.ts"),
  },
  relays: {
    summary: "shows which agents are connected, has them send now or more often",
    load: () => import("../commands/relays/main.ts"),
  },
  pulse: {
    summary: "pulse's server under pulse's flags: history, agents, alerts in one process",
    load: () => import("./pulse/main.ts"),
  },
  clickhouse: {
    summary: "the standalone's ClickHouse endpoint alone, for development",
    load: () => import("./clickhouse/main.ts"),
  },
  migrate: { summary: "brings tables and topics up to date", load: () => import("../commands/migrate/main.ts") },
  doctor: {
    summary: "checks every part and follows an event through all of them; says what to do",
    load: () => import("../commands/doctor/main.ts"),
  },
  verify: {
    summary: "proves that nothing on the log was lost or doubled",
    load: () => import("../commands/verify/main.ts"),
  },
  "dead-letters": {
    summary: "lists what could not be stored, and puts it on the log again",
    load: () => import("../commands/dead-letters/main.ts"),
  },
  properties: {
    summary: "shows which properties events have, and makes columns of them",
    load: () => import("../commands/properties/main.ts"),
  },
  persons: {
    summary: "deletes a person from everything that is stored",
    load: () => import("../commands/persons/main.ts"),
  },
  import: { summary: "sends the rows of a file as events", load: () => import("../commands/import/main.ts") },
};

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
