// `millrace dead-letters ls`: how many of which class, then one line a letter, newest first.
import type { LogPlace } from "#lib/events/replay-record.ts";
import type { PositionNames } from "#lib/ledger/position-name.ts";
import type { ClassSum, Letter, LetterFilter, Letters } from "#lib/letters/letters.ts";
import { identityKey, storedRows } from "#lib/letters/stored-rows.ts";
import { printable, printableJson, printableTime, shortened } from "#lib/process/printable.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Reading, readLetter } from "./reading.ts";

const ERROR_CHARS = 100;
const NAME_CHARS = 60;

export interface ListOptions {
  filter: LetterFilter;
  limit: number;
  json: boolean;
}

/** A letter with what is known of it beyond its table. */
interface ListedLetter {
  letter: Letter;
  reading: Reading | undefined;
  row: LogPlace | undefined;
}

/** Writes as it reads: however many letters are asked for, one page of them is in memory. */
export async function listLetters(
  { warehouse, letters, names }: { warehouse: Warehouse; letters: Letters; names: PositionNames },
  { filter, limit, json }: ListOptions,
  write: (text: string) => void,
): Promise<void> {
  const classes = await letters.classes(filter);
  write(json ? `{"classes":${printableJson(classes.map(classJson))},"letters":[` : classTable(classes));
  let shown = 0;
  for await (const page of letters.read(filter, "newest", limit)) {
    for (const listed of await withRows(warehouse, page)) {
      if (json) write(`${shown === 0 ? "" : ","}\n${printableJson(letterJson(listed, names))}`);
      else write(`${letterLine(listed, names)}\n`);
      shown += 1;
    }
  }
  if (json) write("\n]}\n");
  else write(closingLine(shown, classes));
}

async function withRows(warehouse: Warehouse, page: readonly Letter[]): Promise<ListedLetter[]> {
  const read = page.map((letter) => ({ letter, reading: readLetter(letter) }));
  const rows = await storedRows(
    warehouse,
    read.flatMap(({ reading }) => reading?.identity ?? []),
  );
  return read.map(({ letter, reading }) => ({
    ...{ letter, reading },
    row: reading?.identity && rows.get(identityKey(reading.identity)),
  }));
}

function classTable(classes: readonly ClassSum[]): string {
  if (classes.length === 0) return "";
  const rows = classes.map(({ errorClass, count, firstMs, lastMs, example }) => [
    ...[printable(errorClass), String(count), printableTime(firstMs), printableTime(lastMs)],
    shortened(example, ERROR_CHARS),
  ]);
  return `${alignedText([["class", "letters", "first", "last", "newest error"], ...rows])}\n`;
}

function alignedText(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}

function letterLine({ letter, reading, row }: ListedLetter, names: PositionNames): string {
  const origin = reading?.origin;
  return [
    names.nameOf(letter),
    printableTime(letter.appendTimeMs),
    printable(letter.errorClass),
    shortened(letter.error, ERROR_CHARS),
    ...(reading ? [`${reading.what} ${printableJson(reading.name.slice(0, NAME_CHARS))}`] : []),
    ...(origin ? [`replay of ${names.nameOf(origin)}`] : []),
    ...(row ? [`now a row at ${names.nameOf(row)}`] : []),
  ].join("  ");
}

function closingLine(shown: number, classes: readonly ClassSum[]): string {
  const total = classes.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return "no dead letters\n";
  return shown < total ? `${shown} of ${total} dead letters shown; --limit shows more\n` : `${total} dead letters\n`;
}

function classJson({ errorClass, count, firstMs, lastMs, example }: ClassSum) {
  return { class: errorClass, count, first: printableTime(firstMs), last: printableTime(lastMs), example };
}

function letterJson({ letter, reading, row }: ListedLetter, names: PositionNames) {
  const origin = reading?.origin;
  return {
    position: names.nameOf(letter),
    time: printableTime(letter.appendTimeMs),
    class: letter.errorClass,
    error: letter.error,
    ...(reading && { [reading.what]: reading.name }),
    ...(origin && { replay_of: names.nameOf(origin) }),
    ...(row && { row: names.nameOf(row) }),
  };
}
