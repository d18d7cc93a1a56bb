// Where one row ends and the next begins, in each format. Bytes are enough: UTF-8 never repeats ASCII inside a character.

import { type Boundaries, type Format, InputError, isBlank } from "./records.ts";

const newline = 0x0a;
const quote = 0x22;
const comma = 0x2c;
const backslash = 0x5c;
const [squareOpen, squareClose, curlyOpen, curlyClose] = [0x5b, 0x5d, 0x7b, 0x7d];

/** `separator` is that of CSV, one ASCII character. */
export function createBoundaries(format: Format, separator = ","): Boundaries {
  switch (format) {
    case "ndjson":
      return lineBoundaries();
    case "json":
      return arrayBoundaries();
    case "csv":
      return csvBoundaries(separator.charCodeAt(0));
    default:
      return format satisfies never;
  }
}

function lineBoundaries(): Boundaries {
  return { counts: "lines", next: (chunk, from) => chunk.indexOf(newline, from), finish: () => undefined };
}

/**
 * Cuts at the commas of the outermost array and looks no further into an element than brackets and strings, so a faulty
 * element costs itself alone as long as its brackets and quotes are in balance.
 */
function arrayBoundaries(): Boundaries {
  let depth = 0;
  let inString = false;
  let escaped = false;
  let closed = false;

  /** True when the byte ends an element. */
  const step = (byte: number | undefined): boolean => {
    if (inString) {
      if (escaped) escaped = false;
      else if (byte === backslash) escaped = true;
      else if (byte === quote) inString = false;
      return false;
    }
    switch (byte) {
      case quote:
        inString = true;
        return false;
      case squareOpen:
      case curlyOpen:
        depth += 1;
        return false;
      case squareClose:
        if (depth > 0) depth -= 1;
        closed = depth === 0;
        return closed;
      case curlyClose:
        // A stray one must not close the array.
        if (depth > 1) depth -= 1;
        return false;
      default:
        return byte === comma && depth === 1;
    }
  };

  return {
    counts: "elements",
    next(chunk, from) {
      let at = from;
      if (depth === 0 && !closed) {
        while (at < chunk.length && isBlank(chunk[at])) at += 1;
        if (at === chunk.length) return -1;
        if (chunk[at] !== squareOpen) throw new InputError(notAnArray(chunk[at]));
        depth = 1;
        // The opening bracket ends a blank row, which is passed over.
        return at;
      }
      // Anything visible after the array becomes one last row, which is then refused by name.
      if (closed) return -1;
      for (; at < chunk.length; at += 1) if (step(chunk[at])) return at;
      return -1;
    },
    finish() {
      if (depth === 0 && !closed) throw new InputError("the file is empty: a JSON array was expected");
      return closed ? undefined : "the file ends inside the array: it was cut off";
    },
  };
}

function notAnArray(byte: number | undefined): string {
  const hint = byte === curlyOpen ? "; for one JSON object a line say --format ndjson" : "";
  return `the file is not a JSON array: it does not begin with "["${hint}`;
}

/** A line break inside quotes belongs to the cell. Quotes count only where a cell begins, so `5" pipe` is plain text. */
function csvBoundaries(separator: number): Boundaries {
  let inQuotes = false;
  let cellStart = true;
  return {
    counts: "lines",
    next(chunk, from) {
      for (let at = from; at < chunk.length; at += 1) {
        const byte = chunk[at];
        if (inQuotes) {
          // The second quote of an escaped pair opens again: it follows where cellStart was left true.
          if (byte === quote) {
            inQuotes = false;
            cellStart = true;
          }
          continue;
        }
        if (byte === newline) {
          cellStart = true;
          return at;
        }
        if (byte === quote && cellStart) inQuotes = true;
        cellStart = byte === separator;
      }
      return -1;
    },
    finish: () => undefined,
  };
}
