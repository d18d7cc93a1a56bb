// Whether bytes are exactly one JSON object. Line breaks are only between its tokens, where JSON allows them.

const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const QUOTE = 0x22;
const DOLLAR = 0x24;
const GROUPS = [...Buffer.from('groups"')];
const LOWER_G = 0x67;
const LOWER_E = 0x65;
const LOWER_N = 0x6e;
const LOWER_S = 0x73;
const LOWER_T = 0x74;
const LOWER_U = 0x75;
const NO_OBJECT = 0;
const ONE_OBJECT = 1;
/** What `readObject` returns for an object that may say something about a person or a group. */
export const ABOUT_PERSON = 2;
const BACKSLASH = 0x5c;

/**
 * True when bytes [from, to) open with a brace that closes with the last byte. The row mappers splice them into a
 * row, so they must not be able to end it early; whether what is between the braces is JSON, ClickHouse says, for that
 * row alone.
 */
export function isOneObject(bytes: Uint8Array, from: number, to: number): boolean {
  return readObject(bytes, from, to) !== NO_OBJECT;
}

/** The same, and whether one of its members may be `$set`, `$set_once`, `$unset` or `$groups`, spelled without escapes. */
export function readObject(bytes: Uint8Array, from: number, to: number): 0 | 1 | 2 {
  if (bytes[from] !== OPEN_BRACE) return NO_OBJECT;
  let depth = 0;
  let kind: 1 | 2 = ONE_OBJECT;
  for (let i = from; i < to; i++) {
    const byte = bytes[i] as number;
    if (byte === QUOTE) {
      if (depth === 1 && bytes[i + 1] === DOLLAR && isSetting(bytes, i + 2)) kind = ABOUT_PERSON;
      i = endOfString(bytes, i + 1, to);
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (--depth === 0) return byte === CLOSE_BRACE && i === to - 1 ? kind : NO_OBJECT;
    } else if (byte < 0x20 && byte !== TAB && byte !== LF && byte !== CR) {
      return NO_OBJECT;
    }
  }
  return NO_OBJECT;
}

/** Whether a name goes on with set, unset or groups and the quote that ends it. */
function isSetting(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] === LOWER_G) return GROUPS.every((byte, i) => bytes[at + i] === byte);
  const set = bytes[at] === LOWER_U && bytes[at + 1] === LOWER_N ? at + 2 : at;
  return bytes[set] === LOWER_S && bytes[set + 1] === LOWER_E && bytes[set + 2] === LOWER_T;
}

/** Index of the quote that ends the string; `to` when it has none or a control character, which no JSON string has. */
function endOfString(bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    const byte = bytes[i] as number;
    if (byte === QUOTE) return i;
    if (byte < 0x20) return to;
    // Of the escaped byte, only a control character matters here.
    if (byte === BACKSLASH && (bytes[++i] as number) < 0x20) return to;
  }
  return to;
}
