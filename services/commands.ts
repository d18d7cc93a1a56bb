// The commands of `millrace`. Only the one that is wanted is loaded.
import type { CommandTable } from "#lib/config/command-table.ts";
import type { Main } from "#lib/process/run-command.ts";

/** What each main.ts exports. */
interface CommandModule {
  main: Main;
}

interface Command {
  summary: string;
  load(): Promise<CommandModule>;
}

/** In the order of --help. */
export const COMMANDS: Readonly<Record<string, Command>> = {
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
  where: {
    summary: "says what became of an event: stored, waiting, refused, or never seen",
    load: () => import("../commands/where/main.ts"),
  },
  status: {
    summary: "says what comes in, what is stored, what is wrong and what to do",
    load: () => import("../commands/status/main.ts"),
  },
  tail: { summary: "shows events as they reach the log", load: () => import("../commands/tail/main.ts") },
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
  init: {
    summary: "writes a settings file with every setting in it, explained and commented out",
    load: async () => ({ main: (await import("../commands/init/main.ts")).createInit(describe, commandNames()) }),
  },
  completion: {
    summary: "prints what makes a shell complete commands and settings",
    load: async () => ({ main: (await import("../commands/completion/main.ts")).createCompletion(describeAll) }),
  },
};

function commandNames(): string[] {
  return Object.keys(COMMANDS);
}

function describeAll(): Promise<CommandTable[]> {
  return Promise.all(commandNames().map(describe));
}

/** Its --help, for programs. */
async function describe(name: string): Promise<CommandTable> {
  const command = COMMANDS[name];
  if (command === undefined) throw new Error(`there is no command ${name}`);
  let printed = "";
  const take = (text: string) => {
    printed += text;
  };
  const { main } = await command.load();
  await main(["--help=json"], {}, { out: take, err: take });
  return { ...(JSON.parse(printed) as CommandTable), name, summary: command.summary };
}
