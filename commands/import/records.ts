// A file as a sequence of rows: cut by bytes as they arrive, so that neither file size nor row count costs memory.

import { isUtf8 } from "node:buffer";

/** Longest row in bytes. Above it the row is refused; the gateway's own limit for one event is lower. */
export const rowBytesMax = 16 * 1024 * 1024;

export type Format = "ndjson" | "json" | "csv";

/** One row, cut out but not yet parsed. */
export interface RawRow {
  /** Rises strictly from row to row and is the same in every run: the line, or in a JSON array the element, from 1. */
  number: number;
  /** Where it begins, for people: "line 7" or "line 3, element 7". */
  place: string;
  content: { ok: true; text: string } | { ok: false; reason: string };
}

/** Finds where rows end. Keeps its state from one chunk to the next. */
export interface Boundaries {
  /** What `number` counts. */
  readonly counts: "lines" | "elements";
  /** Index in `chunk`, at or after `from`, of the byte that ends the current row; -1: the row goes on after the chunk. */
  next(chunk: Buffer, from: number): number;
  /** Called at the end of the input; the reason why the file is not whole, if it is not. */
  finish(): string | undefined;
}

/** The input as a whole is not what it was said to be; nothing of it can be taken. */
export class InputError extends Error {
  override readonly name = "InputError";
}

const newline = 0x0a;

/** Rows of `chunks`. Blank ones are passed over. Throws InputError from `boundaries`, and what `chunks` throws. */
export async function* splitRows(chunks: AsyncIterable<Buffer>, boundaries: Boundaries): AsyncGenerator<RawRow> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let line = 1;
  let elements = 0;
  let atStart = true;

  const take = (piece: Buffer): void => {
    bytes += piece.length;
    // An over-long row is counted, not kept: what is dropped here is reported below.
    if (bytes <= rowBytesMax) pieces.push(piece);
    else pieces = [];
  };
  const cut = (lineAtEnd: number): RawRow | undefined => {
    const whole = pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
    const tooLong = bytes > rowBytesMax;
    const start = tooLong ? 0 : firstVisible(whole);
    const blank = !tooLong && start === whole.length;
    const startLine = tooLong ? line : line + countNewlines(whole, 0, start);
    line = lineAtEnd;
    pieces = [];
    bytes = 0;
    if (blank) return undefined;
    elements += 1;
    const byLine = boundaries.counts === "lines";
    return {
      number: byLine ? startLine : elements,
      place: byLine ? `line ${startLine}` : `line ${startLine}, element ${elements}`,
      content: contentOf(whole, tooLong),
    };
  };

  let lineSeen = 1;
  for await (const chunk of chunks) {
    let from = atStart && hasByteOrderMark(chunk) ? 3 : 0;
    atStart = false;
    for (;;) {
      const end = boundaries.next(chunk, from);
      const to = end === -1 ? chunk.length : end;
      take(chunk.subarray(from, to));
      lineSeen += countNewlines(chunk, from, to);
      if (end === -1) break;
      if (chunk[end] === newline) lineSeen += 1;
      const row = cut(lineSeen);
      if (row !== undefined) yield row;
      from = end + 1;
    }
  }
  const row = cut(lineSeen);
  if (row !== undefined) yield row;
  const fault = boundaries.finish();
  if (fault !== undefined) {
    const number = boundaries.counts === "lines" ? line + 1 : elements + 1;
    yield { number, place: `line ${line}`, content: { ok: false, reason: fault } };
  }
}

function contentOf(whole: Buffer, tooLong: boolean): RawRow["content"] {
  if (tooLong) return { ok: false, reason: `is longer than ${rowBytesMax / 1024 / 1024} MiB` };
  if (!isUtf8(whole)) return { ok: false, reason: "is not UTF-8 text" };
  if (whole.includes(0)) return { ok: false, reason: "has NUL bytes" };
  return { ok: true, text: whole.toString("utf8") };
}

// A file is read in chunks of 64 KiB or more, so a mark split over two chunks does not happen.
function hasByteOrderMark(chunk: Buffer): boolean {
  return chunk[0] === 0xef && chunk[1] === 0xbb && chunk[2] === 0xbf;
}

function firstVisible(bytes: Buffer): number {
  let index = 0;
  while (index < bytes.length && isBlank(bytes[index])) index += 1;
  return index;
}

/** JSON's white space. */
export function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09;
}

function countNewlines(bytes: Buffer, from: number, to: number): number {
  let count = 0;
  for (let at = bytes.indexOf(newline, from); at !== -1 && at < to; at = bytes.indexOf(newline, at + 1)) count += 1;
  return count;
}
