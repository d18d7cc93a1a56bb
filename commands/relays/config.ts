// Arguments of `millrace relays`. What one call is to do is never read from the environment.
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { argument, httpUrl, secret, settingInfo } from "#lib/config/settings.ts";
import { didYouMean } from "#lib/config/suggest.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import { printable } from "#lib/process/printable.ts";

const COMMAND = "millrace relays";
const SUMMARY = "who is connected to a relay service; have them send now, or more often for a while.";
const SUBCOMMANDS = ["ls", "flush", "override"] as const;
const WHICH = "ls, flush or override?";
const USAGE = `Usage: ${COMMAND} ls [--json] [settings]
       ${COMMAND} flush ID [settings]
       ${COMMAND} override ID --duration 60s --interval COLLECTOR=1s [--interval ...] [settings]

An ID is what ls prints. Only relays connected to the asked process are known to it. Relays built with pulse's Go package
ignore flush and override; millrace agent does not.`;

const schema = z.object({
  json: argument().describe("ls: print JSON."),
  duration: word("duration").describe("override: for how long, whole seconds such as 60s, at most a day."),
  interval: word("name=duration").describe(
    "override: a collector and how often it shall send, such as cpu=1s, at most an hour. Repeatable.",
  ),
  relayHttpUrl: httpUrl("http://127.0.0.1:8081").describe(
    "HTTP address of the relays: STATS_PORT of millrace start, RELAY_HTTP_PORT of millrace relay.",
  ),
  tlsCa: authorities().describe("PEM file with certificates to trust beside the public authorities, for https."),
  relayToken: secret().describe("RELAY_TOKEN of the relay service, where it has one; of millrace pulse its --token."),
});

function word(placeholder: string) {
  const optional = z.unknown().transform((raw) => (raw === undefined ? undefined : String(raw)));
  return optional.register(settingInfo, { expected: "text", placeholder, argumentOnly: true });
}

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
  | { kind: "text"; text: string; exitCode: 0 | 2 };

/** What to do, or what to print and to end with. Durations are as they were typed: the service judges them. */
export function parseRelays(argv: readonly string[], env: Record<string, string | undefined>): RelaysOutcome {
  const [first = "", ...rest] = argv;
  if (argv.some((each) => each === "--help" || each === "-h") || first === "help") return help(env);
  const kind = SUBCOMMANDS.find((each) => each === first);
  if (kind === undefined) {
    const isWord = first !== "" && !first.startsWith("-");
    const unknown = `unknown command ${printable(first)}.${didYouMean(first, SUBCOMMANDS)}`;
    return usageFault(isWord ? unknown : WHICH);
  }
  const { ids, given, others } = takeOwn(rest);
  const outcome = parseConfig(schema, { argv: others, env, command: `${COMMAND} ${kind}`, summary: SUMMARY });
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  const { json, duration, relayHttpUrl, relayToken, tlsCa } = outcome.config;
  const target = { relayHttpUrl, relayToken, tlsCa };
  if (json && kind !== "ls") return usageFault("--json is for ls");
  if (kind !== "override" && (duration !== undefined || given.length > 0)) {
    return usageFault("--duration and --interval are for override");
  }
  if (kind === "ls") return ids.length > 0 ? usageFault("ls takes no ID") : { kind, json, ...target };
  const [id, more] = ids;
  if (id === undefined || more !== undefined) return usageFault(`${kind} takes one ID, as ls prints it`);
  if (kind === "flush") return { kind, id, ...target };
  if (duration === undefined) return usageFault("override needs --duration, such as 60s");
  if (given.length === 0) return usageFault("override needs at least one --interval, such as cpu=1s");
  const intervals = readIntervals(given);
  return typeof intervals === "string" ? usageFault(intervals) : { kind, id, duration, intervals, ...target };
}

/** parseConfig keeps the last of several values, and takes nothing without dashes; of intervals all are meant. */
function takeOwn(argv: readonly string[]) {
  const [ids, given, others]: [string[], string[], string[]] = [[], [], []];
  const takesValue = new Set(["--duration", "--relay-http-url", "--relay-token", "--tls-ca", "--config-file"]);
  const rest = [...argv];
  for (let each = rest.shift(); each !== undefined; each = rest.shift()) {
    if (each === "--interval") given.push(...rest.splice(0, 1));
    else if (each.startsWith("--interval=")) given.push(each.slice("--interval=".length));
    else if (takesValue.has(each)) others.push(each, ...rest.splice(0, 1));
    else (each.startsWith("-") ? others : ids).push(each);
  }
  return { ids, given, others };
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

function help(env: Record<string, string | undefined>): RelaysOutcome {
  const outcome = parseConfig(schema, { argv: ["--help"], env, command: COMMAND, summary: SUMMARY });
  const settings = outcome.kind === "config" ? "" : outcome.text;
  return { kind: "text", text: settings.replace(/^Usage: .*$/m, USAGE), exitCode: 0 };
}

function usageFault(fault: string): RelaysOutcome {
  const text = `${COMMAND}: ${fault}\n${USAGE.split("\n\n")[0]}\n"${COMMAND} --help" lists all settings.\n`;
  return { kind: "text", text, exitCode: 2 };
}
