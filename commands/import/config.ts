// Settings of `millrace import`. Environment variables carry the prefix MILLRACE_, because names such as TIME, SOURCE or
// TZ mean other things in a shell.

import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { flag, httpUrl, secret, text } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import type { DateOrder } from "#lib/events/time-text.ts";
import type { Format } from "./records.ts";
import { createTimeParser } from "./time.ts";

const formats: readonly Format[] = ["ndjson", "json", "csv"];
const dateOrders: readonly DateOrder[] = ["mdy", "dmy"];

const schema = z
  .object({
    event: text().describe("Name given to every event. Required."),
    time: text().describe("Column with the time of the event; without it, the time of the import."),
    distinctId: text().describe("Column with who did it."),
    value: text().describe("Column with the measured number."),
    source: text().describe("Column with where it came from."),
    format: text().describe("ndjson, json (one array) or csv (with a header row). Default: by the file's name."),
    tz: text("UTC").describe(
      "IANA zone of dates without an offset. A time skipped by daylight saving is moved forward; of two equal ones, the first is meant.",
    ),
    dateOrder: text().describe("mdy or dmy: how 01/02/2001 is read. Without it such dates are refused."),
    url: httpUrl("http://127.0.0.1:8080").describe("Address of the gateway."),
    apiKey: secret().describe("Key for the gateway, where it asks for one."),
    tlsCa: authorities().describe("PEM file with certificates to trust beside the public authorities, for https."),
    checkpoint: text().describe("File that keeps what is already in. Default: FILE.millrace-checkpoint."),
    checkStored: flag(false).describe("Look up every event among those stored, for when a checkpoint was lost."),
    force: flag(false).describe(
      "Send everything again, also what a checkpoint has as done; what is in is not doubled.",
    ),
  })
  .superRefine((values, context) => {
    const fault = (key: keyof typeof values, message: string) =>
      context.addIssue({ code: "custom", path: [key], message });
    if (values.event === undefined) fault("event", "is required: the name given to every event");
    if (!isOneOf(formats, values.format)) fault("format", `expected one of ${formats.join(", ")}`);
    if (!isOneOf(dateOrders, values.dateOrder)) fault("dateOrder", `expected one of ${dateOrders.join(", ")}`);
    if (!zoneExists(values.tz)) fault("tz", "expected an IANA zone such as Europe/Berlin");
  });

function isOneOf(words: readonly string[], word: string | undefined): boolean {
  return word === undefined || words.includes(word);
}

function zoneExists(zone: string): boolean {
  try {
    createTimeParser({ zone, dateOrder: undefined });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

export interface ImportConfig {
  /** Path, or "-" for standard input. */
  file: string;
  event: string;
  columns: Record<"time" | "distinctId" | "value" | "source", string | undefined>;
  format: Format;
  tz: string;
  dateOrder: DateOrder | undefined;
  url: string;
  apiKey: string | undefined;
  tlsCa: string | undefined;
  checkpoint: string | undefined;
  checkStored: boolean;
  force: boolean;
}

export type ImportConfigOutcome =
  | { kind: "config"; config: ImportConfig }
  | { kind: "text"; text: string; exitCode: 0 | 2 };

const command = "millrace import";
const prefix = "MILLRACE_";
const booleanFlags = new Set(["check-stored", "force", "check-config", "print-config", "help"]);

export function parseImportConfig(
  argv: readonly string[],
  env: Record<string, string | undefined>,
): ImportConfigOutcome {
  const { files, rest } = takeFiles(argv);
  const own = Object.entries(env).filter(([name]) => name.startsWith(prefix));
  const outcome = parseConfig(schema, {
    argv: rest,
    env: Object.fromEntries(own.map(([name, value]) => [name.slice(prefix.length), value])),
    command,
    summary: "sends the rows of a file to the gateway as events; run it again to go on after a stop.",
  });
  if (outcome.kind === "help") return { kind: "text", text: withOwnNames(outcome.text), exitCode: 0 };
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  const [file, ...others] = files;
  if (file === undefined || others.length > 0) {
    const found = file === undefined ? "no file is named" : `several files are named (${files.join(", ")})`;
    return {
      kind: "text",
      text: `${command}: ${found}: ${command} FILE --event NAME, - for standard input\n`,
      exitCode: 2,
    };
  }
  const { config } = outcome;
  const format = formats.find((each) => each === config.format) ?? formatOf(file);
  if (format === undefined) {
    const hint = `say --format ${formats.join(", --format ")}`;
    return { kind: "text", text: `${command}: the name ${file} does not tell the format: ${hint}\n`, exitCode: 2 };
  }
  const {
    time,
    distinctId,
    value,
    source,
    event = "",
    tz,
    url,
    apiKey,
    tlsCa,
    checkpoint,
    checkStored,
    force,
  } = config;
  const columns = { time, distinctId, value, source };
  const dateOrder = dateOrders.find((each) => each === config.dateOrder);
  return {
    kind: "config",
    config: { file, event, columns, format, tz, dateOrder, url, apiKey, tlsCa, checkpoint, checkStored, force },
  };
}

/** parseConfig knows settings alone; the file is whatever is neither a setting nor the value of one. */
function takeFiles(argv: readonly string[]): { files: string[]; rest: string[] } {
  const files: string[] = [];
  const rest: string[] = [];
  for (let index = 0; index < argv.length; index += 1) {
    const argument = argv[index] ?? "";
    if (argument === "-" || !argument.startsWith("-")) {
      files.push(argument);
      continue;
    }
    rest.push(argument);
    const name = argument.replace(/^-+(no-)?/, "");
    const next = argv[index + 1];
    if (argument.includes("=") || booleanFlags.has(name) || argument === "-h" || next === undefined) continue;
    rest.push(next);
    index += 1;
  }
  return { files, rest };
}

function formatOf(file: string): Format | undefined {
  if (/\.(ndjson|jsonl)$/i.test(file)) return "ndjson";
  if (/\.json$/i.test(file)) return "json";
  return /\.csv$/i.test(file) ? "csv" : undefined;
}

/** Variables under the names that are read here, and the file in the usage line. */
function withOwnNames(help: string): string {
  return help
    .replace("[settings]", "FILE --event NAME [settings]   (- for standard input, which keeps no checkpoint)")
    .replaceAll(/^( {2}--[a-z-]+(?: <[^>]+>)? +)([A-Z][A-Z_]+)/gm, `$1${prefix}$2`);
}
