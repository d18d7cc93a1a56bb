// Arguments of `millrace relays`. What one call is to do is never read from the environment.
import { z } from "zod";
import { onCommandLine, option, several } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { argument, httpUrl, secret } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import { printable } from "#lib/process/printable.ts";

const schema = z.object({
  json: argument().describe("ls: print JSON."),
  duration: option("duration", "text", (raw) => raw).describe(
    "override: for how long, whole seconds such as 60s, at most a day.",
  ),
  interval: onCommandLine(several("name=duration")).describe(
    "override: a collector and how often to send it, such as cpu=1s, at most an hour. Repeatable.",
  ),
  relayHttpUrl: httpUrl("http://127.0.0.1:8081").describe(
    "HTTP address of the relays: STATS_PORT of millrace start, RELAY_HTTP_PORT of millrace relay.",
  ),
  tlsCa: authorities().describe("PEM file with certificates to trust besides the public authorities', for https."),
  relayToken: secret().describe("RELAY_TOKEN of the relay, if it has one; for millrace pulse its --token."),
});

export interface Target {
  relayHttpUrl: string;
  relayToken: string | undefined;
  /** PEM file. */
  tlsCa: string | undefined;
}

export type RelaysOutcome =
  | ({ kind: "ls"; json: boolean } & Target)
  | ({ kind: "flush"; id: string } & Target)
  | ({ kind: "override"; id: string; duration: string; intervals: Record<string, string> } & Target)
  | TextOutcome;

const ONE_ID = { min: 1, max: 1 };
const COMMAND_LINE = {
  command: "millrace relays",
  summary: "who is connected to a relay service; have them send now, or more often for a while.",
  schema,
  forms: [
    "ls [--json] [settings]",
    "flush ID [settings]",
    "override ID --duration 60s --interval COLLECTOR=1s [--interval ...] [settings]",
  ],
  notes: `An ID is what ls prints. Only relays connected to the asked process are known to it. Relays built with pulse's Go package
ignore flush and override; millrace agent does not.`,
  subcommands: {
    ls: { operands: { max: 0, fault: "ls takes no ID" }, arguments: ["json"] },
    flush: { operands: { ...ONE_ID, fault: "flush takes one ID, as ls prints it" } },
    override: {
      operands: { ...ONE_ID, fault: "override takes one ID, as ls prints it" },
      arguments: ["duration", "interval"],
    },
  },
} satisfies CommandLine<typeof schema, string>;

/** What to do, or what to print and to end with. Durations are as they were typed: the service judges them. */
export function parseRelays(argv: readonly string[], env: Record<string, string | undefined>): RelaysOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { name: kind, operands } = outcome;
  const { json, duration, interval, ...target } = outcome.config;
  const [id = ""] = operands;
  if (kind === "ls") return { kind, json, ...target };
  if (kind === "flush") return { kind, id, ...target };
  if (duration === undefined) return usageFault(COMMAND_LINE, "override needs --duration, such as 60s");
  if (interval.length === 0) return usageFault(COMMAND_LINE, "override needs at least one --interval, such as cpu=1s");
  const intervals = readIntervals(interval);
  if (typeof intervals === "string") return usageFault(COMMAND_LINE, intervals);
  return { kind, id, duration, intervals, ...target };
}

/** Text: what is wrong. */
function readIntervals(given: readonly string[]): Record<string, string> | string {
  const intervals = new Map<string, string>();
  for (const each of given) {
    const equals = each.lastIndexOf("=");
    const name = each.slice(0, Math.max(0, equals));
    if (name === "" || equals === each.length - 1) {
      return `--interval ${printable(each)}: expected a collector's name and how often, such as cpu=1s`;
    }
    if (intervals.has(name)) return `--interval ${printable(each)}: ${printable(name)} is given twice`;
    intervals.set(name, each.slice(equals + 1));
  }
  return Object.fromEntries(intervals);
}
