// Settings of `millrace import`. Environment variables carry the prefix MILLRACE_, because names such as TIME, SOURCE or
// TZ mean other things in a shell.

import { z } from "zod";
import { type CommandLine, parseCommand, type TextOutcome, usageFault } from "#lib/config/command.ts";
import { duration, flag, httpUrl, secret, text } from "#lib/config/settings.ts";
import { authorities } from "#lib/config/tls-settings.ts";
import type { DateOrder } from "#lib/events/time-text.ts";
import type { ColumnNames } from "./map.ts";
import type { Format } from "./records.ts";
import { createTimeParser } from "./time.ts";

const formats: readonly Format[] = ["ndjson", "json", "csv"];
const dateOrders: readonly DateOrder[] = ["mdy", "dmy"];

const schema = z
  .object({
    event: text().describe("Name given to every event that has none of its own. Required without --event-column."),
    eventColumn: text().describe("Column with the event's name."),
    time: text().describe(
      "Column with the time of the event; without it, the time of the import. Of nested fields: properties.time.",
    ),
    distinctId: text().describe("Column with the distinct id."),
    value: text().describe("Column with the event's value."),
    source: text().describe("Column with the event's source."),
    id: text().describe(
      "Column with the event's id; without it, the id follows from the file's content and the row's number.",
    ),
    properties: text().describe("Column with an object whose fields become properties, beside the other columns."),
    format: text().describe("ndjson, json (one array) or csv (with a header row). Default: by the file's name."),
    separator: text().describe("Of CSV: one character, or tab. Without it a comma."),
    tz: text("UTC").describe(
      "IANA zone of dates without an offset. A time skipped by daylight saving is moved forward; one that occurs twice means the first.",
    ),
    dateOrder: text().describe("mdy or dmy: how 01/02/2001 is read. Without it such dates are refused."),
    url: httpUrl("http://127.0.0.1:8080").describe("Address of the gateway."),
    apiKey: secret().describe("Key for the gateway, if it requires one."),
    tlsCa: authorities().describe("PEM file with certificates to trust besides the public authorities', for https."),
    checkpoint: text().describe("File that records what was imported. Default: FILE.millrace-checkpoint."),
    checkStored: flag(false).describe("Look up every event among those stored, for example if a checkpoint was lost."),
    force: flag(false).describe(
      "Send everything again, even what a checkpoint records as done; what is stored stays as it is and is not doubled.",
    ),
    newEvents: flag(false).describe(
      "Make new events of the rows: for a file imported under wrong options before. The old events stay beside them.",
    ),
    wait: duration("30s").describe(
      "How long to wait for the events to be stored, where the gateway's /metrics shows it; 0s: do not wait.",
    ),
  })
  .superRefine((values, context) => {
    const fault = (key: keyof typeof values, message: string) =>
      context.addIssue({ code: "custom", path: [key], message });
    if (values.event === undefined && values.eventColumn === undefined)
      fault("event", "is required: the name given to every event; or --event-column, where each row has its own");
    if (values.separator !== undefined && separatorOf(values.separator) === undefined)
      fault("separator", "expected one character such as ; or |, or tab");
    if (!isOneOf(formats, values.format)) fault("format", `expected one of ${formats.join(", ")}`);
    if (!isOneOf(dateOrders, values.dateOrder)) fault("dateOrder", `expected one of ${dateOrders.join(", ")}`);
    if (!zoneExists(values.tz)) fault("tz", "expected an IANA zone such as Europe/Berlin");
  });

function separatorOf(given: string): string | undefined {
  if (/^(?:tab|\\t)$/i.test(given)) return "\t";
  return /^[!-~]$/.test(given) && given !== '"' ? given : undefined;
}

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

type Settings = z.output<typeof schema>;

export interface ImportConfig
  extends Pick<
    Settings,
    "event" | "tz" | "url" | "apiKey" | "tlsCa" | "checkpoint" | "checkStored" | "force" | "newEvents" | "wait"
  > {
  /** Path, or "-" for standard input. */
  file: string;
  columns: ColumnNames;
  format: Format;
  /** Undefined: none was named. */
  separator: string | undefined;
  dateOrder: DateOrder | undefined;
}

export type ImportConfigOutcome = { kind: "config"; config: ImportConfig } | TextOutcome;

const COMMAND_LINE: CommandLine<typeof schema> = {
  command: "millrace import",
  summary: "sends the rows of a file to the gateway as events; run it again to continue after a stop.",
  schema,
  forms: ["FILE --event NAME [settings]   (- for standard input, which keeps no checkpoint)"],
  notes: `The FILE is CSV with a header row, NDJSON or one JSON array, plain or as .gz. Exports of product analytics have name, time
and id in each row: --event-column event --time properties.time --distinct-id properties.distinct_id
--id 'properties.$insert_id' --properties properties.`,
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
  const { time, distinctId, value, source, eventColumn, id, properties, ...own } = outcome.config;
  const { format: formatName, dateOrder, separator, ...others } = own;
  const [file = ""] = outcome.operands;
  const format = formats.find((each) => each === formatName) ?? formatOf(file);
  if (format === undefined) {
    const hint = `say --format ${formats.join(", --format ")}`;
    return usageFault(COMMAND_LINE, `the name ${file} does not tell the format: ${hint}`);
  }
  const columns = { time, distinctId, value, source, eventColumn, id, properties };
  const order = dateOrders.find((each) => each === dateOrder);
  const asked = { ...others, file, columns, format, dateOrder: order };
  return { kind: "config", config: { ...asked, separator: separator && separatorOf(separator) } };
}

function formatOf(file: string): Format | undefined {
  const name = file.replace(/\.gz$/i, "");
  if (/\.(ndjson|jsonl)$/i.test(name)) return "ndjson";
  if (/\.json$/i.test(name)) return "json";
  return /\.(csv|tsv)$/i.test(name) ? "csv" : undefined;
}
