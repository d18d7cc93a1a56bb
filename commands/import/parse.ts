// One row's text → its fields.

import { parse as parseCsv } from "csv-parse/sync";
import { type Format, InputError } from "./records.ts";

export type Fields = Record<string, unknown>;

export type ParsedRow = { ok: true; fields: Fields } | { ok: false; reason: string };

export interface RowParser {
  /** Takes the next row's text, in file order; undefined for the row that only names the columns. Throws InputError. */
  parse(text: string): ParsedRow | undefined;
  /** False until the row that names the columns has been seen, where there is one. */
  isReady(): boolean;
  /** Column names, for formats that declare them and once the declaring row has been seen. */
  columns(): readonly string[] | undefined;
}

export function createRowParser(format: Format): RowParser {
  return format === "csv" ? csvRowParser() : { parse: parseJsonRow, isReady: () => true, columns: () => undefined };
}

function parseJsonRow(text: string): ParsedRow {
  let value: unknown;
  try {
    value = parseJsonExactly(text);
  } catch (error) {
    // JSON.parse throws nothing but SyntaxError; its text names the position within the row.
    return { ok: false, reason: `is not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { ok: false, reason: "is not a JSON object" };
  }
  return { ok: true, fields: value as Fields };
}

/** A number in its own digits: JSON.stringify writes it unchanged where a JavaScript number would be rounded. */
export interface ExactNumber {
  readonly rawJSON: string;
}

interface ExactJson {
  parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): ExactNumber;
  isRawJSON(value: unknown): value is ExactNumber;
}

// TypeScript's library does not declare JSON.rawJSON and the reviver's third argument yet; Node has had them since 22.
const exactJson = JSON as unknown as ExactJson;

export function isExactNumber(value: unknown): value is ExactNumber {
  return exactJson.isRawJSON(value);
}

/** As JSON.parse, but integers beyond 2^53, which are usually ids, keep every digit. */
function parseJsonExactly(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return exactJson.parse(text, (_key, value, { source }) => {
    const rounded = typeof value === "number" && !Number.isSafeInteger(value) && source !== undefined;
    return rounded && /^-?\d+$/.test(source) ? exactJson.rawJSON(source) : value;
  });
}

/** Cells stay text: "02134" is a post code as often as a number. Empty cells are absent fields. */
function csvRowParser(): RowParser {
  let names: string[] | undefined;
  return {
    isReady: () => names !== undefined,
    columns: () => names,
    parse(text) {
      const cells = cellsOf(text);
      if (names === undefined) {
        if (!Array.isArray(cells)) throw new InputError(`the header row ${cells.reason}`);
        names = checkedHeader(cells);
        return undefined;
      }
      if (!Array.isArray(cells)) return { ok: false, reason: cells.reason };
      if (cells.length !== names.length) {
        return { ok: false, reason: `has ${cells.length} cells where the header has ${names.length}` };
      }
      const fields: Fields = {};
      for (const [index, name] of names.entries()) if (cells[index] !== "") fields[name] = cells[index];
      return { ok: true, fields };
    },
  };
}

function checkedHeader(cells: string[]): string[] {
  const names = cells.map((cell) => cell.trim());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InputError(`the header row names the column "${twice}" twice`);
  if (names.includes("")) throw new InputError("the header row has a column without a name");
  return names;
}

function cellsOf(text: string): string[] | { reason: string } {
  const row = text.endsWith("\r") ? text.slice(0, -1) : text;
  // Most rows have no quotes, and then cutting at commas is what the parser would do, at a twentieth of the cost.
  if (!row.includes('"')) return row.split(",");
  try {
    // The row is known to be one record: a line break in it is inside quotes.
    const [cells = []] = parseCsv(row, { relax_quotes: true, record_delimiter: ["\n", "\r\n"] });
    return cells;
  } catch (error) {
    return { reason: `is not CSV: ${error instanceof Error ? error.message : String(error)}` };
  }
}
