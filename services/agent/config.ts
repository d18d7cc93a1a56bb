// Settings of `millrace agent`. Environment variables carry the prefix MILLRACE_, because ID, TOKEN or COMMAND mean other
// things in a shell.
import { z } from "zod";
import { several } from "#lib/config/arguments.ts";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { type HostPort, type HostPortForm, parseHostPort } from "#lib/config/host-port.ts";
import { duration, flag, oneOf, secret, text } from "#lib/config/settings.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";
import { nameFault } from "#lib/relay-protocol/client-collectors.ts";
import { BUILT_IN_NAMES } from "./collectors.ts";

const ADDRESS: HostPortForm = { usualPort: 3001 };
const INTERVAL_MS_MIN = 1_000;

const agentSchema = z
  .object({
    server: text().describe("host:port of the relay service. Required."),
    id: text().describe("Name of this host, the tag `host` of its points. Required."),
    token: secret().describe("RELAY_TOKEN of the relay, if it has one."),
    tls: flag(false).describe("TLS to the relay service."),
    tlsCa: text().describe("PEM file with the certificate to trust, if no public authority has signed it."),
    command: several("name=cmd").describe(
      "name=CMD: a collector of your own. CMD is run with `sh -c`, as this user, each time values are collected, for at most 9 s, and prints a number. Repeatable on the command line.",
    ),
    interval: duration("0s", { bareUnit: "s" })
      .superRefine(checkInterval)
      .describe("How often to send values without being polled; 0: only when polled."),
    logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
  })
  .superRefine((values, context) => {
    const fault = (key: keyof typeof values, message: string) =>
      context.addIssue({ code: "custom", path: [key], message });
    if (values.server === undefined) fault("server", "is required: host:port of the relay service");
    else {
      const address = parseHostPort(values.server, ADDRESS);
      if (typeof address === "string") fault("server", address);
    }
    if (values.id === undefined) fault("id", "is required: the name of this host");
    else if (/[\r\n]/.test(values.id)) fault("id", "expected one line");
    if (values.token !== undefined && !/^\S+$/.test(values.token))
      fault("token", "expected one word without white space");
    if (values.tlsCa !== undefined && !values.tls) fault("tlsCa", "is of use with --tls only");
  });

function checkInterval(ms: number, context: z.RefinementCtx): void {
  if (ms > 0 && ms < INTERVAL_MS_MIN)
    context.addIssue({ code: "custom", message: `expected 0, or at least ${INTERVAL_MS_MIN / 1_000}s` });
}

export interface CommandSetting {
  name: string;
  /** For `sh -c`. */
  command: string;
}

export interface AgentConfig extends Pick<z.output<typeof agentSchema>, "token" | "tls" | "tlsCa" | "logLevel"> {
  host: string;
  port: number;
  id: string;
  commands: readonly CommandSetting[];
  /** 0: none of its own. */
  intervalMs: number;
}

const COMMAND_LINE: CommandLine<typeof agentSchema> = {
  command: "millrace agent",
  summary: "Measures this host and answers a relay service's polls.",
  schema: agentSchema,
  forms: ["[settings]"],
  environment: { prefix: "MILLRACE_" },
};

export type AgentConfigOutcome = { kind: "config"; config: AgentConfig } | TextOutcome;

/** Settings, or what to print and to end with. */
export function parseAgentConfig(argv: readonly string[], env: Record<string, string | undefined>): AgentConfigOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { server = "", id = "", command, interval, ...others } = outcome.config;
  const commands = parseCommands(command);
  if (typeof commands === "string") return usageFault(COMMAND_LINE, commands);
  const address = parseHostPort(server, ADDRESS) as HostPort; // The schema has seen to it.
  return { kind: "config", config: { ...others, ...address, id, commands, intervalMs: interval } };
}

/** Text: what is wrong. */
function parseCommands(given: readonly string[]): CommandSetting[] | string {
  const commands: CommandSetting[] = [];
  for (const each of given) {
    const equals = each.indexOf("=");
    const [name, command] = [each.slice(0, Math.max(0, equals)), each.slice(equals + 1)];
    if (equals < 1 || command.trim() === "") return `--command ${each}: expected name=CMD, such as users='who | wc -l'`;
    const fault = nameFault(name);
    if (fault !== undefined) return `--command ${each}: ${fault}`;
    const isTaken = BUILT_IN_NAMES.includes(name) || commands.some((other) => other.name === name);
    if (isTaken) return `--command ${each}: the name ${name} is taken`;
    commands.push({ name, command });
  }
  return commands;
}
