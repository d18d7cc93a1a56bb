// `millrace relays`: exit code 0 when it was done, 1 when the relay service refused or cannot be reached, 2 for wrong
// arguments.

import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { printable, printableJson } from "#lib/process/printable.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { createRelaysClient, RelaysError } from "./client.ts";
import { parseRelays, type RelaysOutcome } from "./config.ts";
import { relaysTable } from "./table.ts";

export const main = createCommand({
  name: "relays",
  parse: parseRelays,
  async run(asked, { out }) {
    trustAuthorities(asked.tlsCa);
    out(`${await run(asked)}\n`);
    return 0;
  },
  explain: (error) => (error instanceof RelaysError ? error.message : undefined),
});

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
  return `notified ${connections} ${connections === 1 ? "connection" : "connections"} of ${printable(asked.id)}`;
}
