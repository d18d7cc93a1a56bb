// Whether bytes are exactly one JSON object on one line.

const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * True when bytes [from, to) open with a brace that closes with the last byte. The row mappers splice them into a
 * row, so they must not be able to end it early; whether what is between the braces is JSON, ClickHouse says, for that
 * row alone.
 */
export function isOneObject(bytes: Uint8Array, from: number, to: number): boolean {
  if (bytes[from] !== OPEN_BRACE) return false;
  let depth = 0;
  for (let i = from; i < to; i++) {
    const byte = bytes[i] as number;
    if (byte === QUOTE) {
      i = endOfString(bytes, i + 1, to);
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (--depth === 0) return byte === CLOSE_BRACE && i === to - 1;
    } else if (byte < 0x20 && byte !== TAB && byte !== LF && byte !== CR) {
      return false;
    }
  }
  return false;
}

/** Index of the quote that ends the string; `to` when it has none or a control character, which no JSON string has. */
function endOfString(bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    const byte = bytes[i] as number;
    if (byte === QUOTE) return i;
    if (byte === BACKSLASH) i++;
    else if (byte < 0x20) return to;
  }
  return to;
}
