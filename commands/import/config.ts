// Settings of `millrace import`. Environment variables carry the prefix MILLRACE_, because names such as TIME, SOURCE or
// TZ mean other things in a shell.

import { z } from "zod";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
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
    distinctId: text().describe("Column with the distinct id."),
    value: text().describe("Column with the event's value."),
    source: text().describe("Column with the event's source."),
    format: text().describe("ndjson, json (one array) or csv (with a header row). Default: by the file's name."),
    tz: text("UTC").describe(
      "IANA zone of dates without an offset. A time skipped by daylight saving is moved forward; one that occurs twice means the first.",
    ),
    dateOrder: text().describe("mdy or dmy: how 01/02/2001 is read. Without it such dates are refused."),
    url: httpUrl("http://127.0.0.1:8080").describe("Address of the gateway."),
    apiKey: secret().describe("Key for the gateway, if it requires one."),
    tlsCa: authorities().describe("PEM file with certificates to trust besides the public authorities', for https."),
    checkpoint: text().describe("File that records what was imported. Default: FILE.millrace-checkpoint."),
    checkStored: flag(false).describe("Look up every event among those stored, for example if a checkpoint was lost."),
    force: flag(false).describe("Send everything again, even what a checkpoint records as done; nothing is doubled."),
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

export type ImportConfigOutcome = { kind: "config"; config: ImportConfig } | TextOutcome;

const COMMAND_LINE: CommandLine<typeof schema> = {
  command: "millrace import",
  summary: "sends the rows of a file to the gateway as events; run it again to continue after a stop.",
  schema,
  forms: ["FILE --event NAME [settings]   (- for standard input, which keeps no checkpoint)"],
  environment: { prefix: "MILLRACE_" },
  operands: {
    min: 1,
    max: 1,
    fault: (files) => (files.length === 0 ? "no file is named" : `several files are named (${files.join(", ")})`),
  },
};

export function parseImportConfig(
  argv: readonly string[],
  env: Record<string, string | undefined>,
): ImportConfigOutcome {
  const outcome = parseCommand(COMMAND_LINE, { argv, env });
  if (outcome.kind === "text") return outcome;
  const { time, distinctId, value, source, event = "", format: formatName, dateOrder, ...others } = outcome.config;
  const [file = ""] = outcome.operands;
  const format = formats.find((each) => each === formatName) ?? formatOf(file);
  if (format === undefined) {
    const hint = `say --format ${formats.join(", --format ")}`;
    return usageFault(COMMAND_LINE, `the name ${file} does not tell the format: ${hint}`);
  }
  const columns = { time, distinctId, value, source };
  const order = dateOrders.find((each) => each === dateOrder);
  return { kind: "config", config: { ...others, file, event, columns, format, dateOrder: order } };
}

function formatOf(file: string): Format | undefined {
  if (/\.(ndjson|jsonl)$/i.test(file)) return "ndjson";
  if (/\.json$/i.test(file)) return "json";
  return /\.csv$/i.test(file) ? "csv" : undefined;
}
