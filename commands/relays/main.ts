// `millrace relays`: exit code 0 when it was done, 1 when the relay service refused or cannot be reached, 2 for wrong
// arguments.

import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { printable, printableJson } from "#lib/process/printable.ts";
import { ownTerminal, type Terminal } from "#lib/process/terminal.ts";
import { createRelaysClient, RelaysError } from "./client.ts";
import { parseRelays, type RelaysOutcome } from "./config.ts";
import { relaysTable } from "./table.ts";

export async function main(
  argv: readonly string[],
  env: Record<string, string | undefined>,
  terminal: Terminal = ownTerminal,
): Promise<number> {
  const outcome = parseRelays(argv, env);
  if (outcome.kind === "text") {
    (outcome.exitCode === 0 ? terminal.out : terminal.err)(outcome.text);
    return outcome.exitCode;
  }
  try {
    trustAuthorities(outcome.tlsCa);
    terminal.out(`${await run(outcome)}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof RelaysError)) throw error;
    terminal.err(`relays: ${printable(error.message)}\n`);
    return 1;
  }
}

async function run(asked: Exclude<RelaysOutcome, { kind: "text" }>): Promise<string> {
  const client = createRelaysClient(asked);
  if (asked.kind === "ls") {
    const relays = await client.list();
    return asked.json ? printableJson({ relays }, 2) : relaysTable(relays);
  }
  const { duration, intervals } = asked.kind === "override" ? asked : {};
  const connections = await (intervals === undefined
    ? client.flush(asked.id)
    : client.override(asked.id, { duration, intervals }));
  return `told ${connections} ${connections === 1 ? "connection" : "connections"} of ${printable(asked.id)}`;
}
