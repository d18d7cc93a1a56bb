// One row's text → its fields.

import { parse as parseCsv } from "csv-parse/sync";
import { type JsonCursor, type JsonText, textOf } from "#lib/events/json-cursor.ts";
import { JsonFault } from "#lib/events/json-fault.ts";
import { createJsonScanner } from "#lib/events/json-scanner.ts";
import { NO_NAMES, valueAt } from "#lib/events/json-value.ts";
import { type Fields, keepTexts } from "./kept-text.ts";
import { type Format, InputError } from "./records.ts";

export type ParsedRow = { ok: true; fields: Fields } | { ok: false; reason: string };

export interface RowParser {
  /** Takes the next row's text, in file order; undefined for the row that only names the columns. Throws InputError. */
  parse(text: string): ParsedRow | undefined;
  /** False until the row that names the columns has been seen, where there is one. */
  isReady(): boolean;
  /** Column names, for formats that declare them and once the declaring row has been seen. */
  columns(): readonly string[] | undefined;
}

/** `separator` is that of CSV; undefined: a comma, unless the header looks as if it were another. */
export function createRowParser(format: Format, separator?: string): RowParser {
  return format === "csv"
    ? csvRowParser(separator)
    : { parse: parseJsonRow, isReady: () => true, columns: () => undefined };
}

function parseJsonRow(text: string): ParsedRow {
  let value: unknown;
  try {
    value = parseJsonExactly(text);
  } catch (error) {
    if (error instanceof JsonFault) return { ok: false, reason: error.message };
    // A key twice, or a RangeError: too many levels.
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { ok: false, reason: "is not a JSON object" };
  }
  return { ok: true, fields: value as Fields };
}

const cursor = createJsonScanner();
const UNBOUNDED = { keys: Number.MAX_SAFE_INTEGER, levels: 1_000_000 };

/** The row's value, of which objects know their text. Throws for what is not JSON, and for a key that is there twice. */
function parseJsonExactly(text: string): unknown {
  cursor.open(Buffer.from(text));
  const value = valueAt(cursor, 1, objectAt);
  cursor.close();
  const found = cursor.takeFault(0);
  if (found) throw new Error(`${found.field} ${found.message}`);
  return value;
}

function objectAt(cursor: JsonCursor, level: number): Fields {
  const entries: [string, unknown][] = [];
  const members = new Map<string, { key: string; value: JsonText }>();
  cursor.enter();
  while (cursor.nextMember(NO_NAMES)) {
    const name = cursor.key();
    const key = textOf(cursor.keyText());
    cursor.beginBounds(UNBOUNDED);
    entries.push([name, valueAt(cursor, level, objectAt)]);
    members.set(name, { key, value: cursor.endBounds() });
  }
  return keepTexts(Object.fromEntries(entries), members);
}

const columnsMax = 10_000;
const separators: Readonly<Record<string, string>> = { ";": ";", "\t": "tab", "|": "|" };

/** Cells stay text: "02134" is a post code as often as a number. Empty cells are absent fields. */
function csvRowParser(separator: string | undefined): RowParser {
  let names: string[] | undefined;
  return {
    isReady: () => names !== undefined,
    columns: () => names,
    parse(text) {
      if (names === undefined && isSeparatorLine(text, separator)) return undefined;
      const cells = cellsOf(text, separator ?? ",");
      if (names === undefined) {
        if (!Array.isArray(cells)) throw new InputError(`the header row ${cells.reason}`);
        if (cells.length === 1 && separator === undefined) refuseOtherSeparator(text);
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

/** The line `sep=;` that spreadsheets write before the header. */
function isSeparatorLine(text: string, separator: string | undefined): boolean {
  const [, said] = /^sep=(.)\r?$/.exec(text) ?? [];
  if (said === undefined || said === (separator ?? ",")) return said !== undefined;
  throw new InputError(`the first line says that the separator is ${said}: ${separatorRemedy(said)}`);
}

/** Every row would be one cell of junk. */
function refuseOtherSeparator(header: string): void {
  const plain = header.replaceAll(/"[^"]*"/g, "");
  const found = Object.keys(separators).find((each) => plain.includes(each));
  if (found === undefined) return;
  const remedy = `${separatorRemedy(found)}, or --separator , when it is part of the column's name`;
  throw new InputError(`the header row has no comma, and the separator looks like ${separators[found]}: ${remedy}`);
}

function separatorRemedy(separator: string): string {
  return `say --separator '${separators[separator] ?? separator}'`;
}

function checkedHeader(cells: string[]): string[] {
  if (cells.length > columnsMax) {
    throw new InputError(`the header row has ${cells.length} columns, more than the ${columnsMax} that are taken`);
  }
  const names = cells.map((cell) => cell.trim());
  const seen = new Set<string>();
  for (const name of names) {
    if (name !== "" && seen.has(name)) throw new InputError(`the header row names the column "${name}" twice`);
    seen.add(name);
  }
  // Spreadsheets and data frames write an index or an empty last column so; its cells are kept all the same.
  return names.map((name, index) => {
    if (name !== "") return name;
    const made = `column_${index + 1}`;
    if (!seen.has(made)) return made;
    throw new InputError(`column ${index + 1} of the header row has no name, and ${made} is taken: give it one`);
  });
}

function cellsOf(text: string, separator: string): string[] | { reason: string } {
  const row = text.endsWith("\r") ? text.slice(0, -1) : text;
  // Most rows have no quotes, and then cutting at separators is what the parser would do, at a twentieth of the cost.
  if (!row.includes('"')) return row.split(separator);
  try {
    // The row is known to be one record: a line break in it is inside quotes.
    const [cells = []] = parseCsv(row, { delimiter: separator, relax_quotes: true, record_delimiter: ["\n", "\r\n"] });
    return cells;
  } catch (error) {
    return { reason: `is not CSV: ${error instanceof Error ? error.message : String(error)}` };
  }
}
