// What bytes mean in JSON text, as tables: one load a byte.

/** What can begin with a byte where a value is expected. */
export const STRING = 1;
export const NUMBER = 2;
export const LITERAL = 3;
export const OPENING = 4;
export const VALUE_START = new Uint8Array(256);
for (const [bytes, kind] of [
  ['"', STRING],
  ["-0123456789", NUMBER],
  // N and I: NaN and Infinity, which are recognised to be refused by name.
  ["tfnNI", LITERAL],
  ["{[", OPENING],
] as const) {
  for (const byte of Buffer.from(bytes)) VALUE_START[byte] = kind;
}

/** What a byte is within a string, as bits, so that several are looked at together. Below CLOSING it stands for itself. */
export const NON_ASCII = 1;
export const CLOSING = 2;
export const ESCAPE = 4;
const CONTROL = 8;
export const IN_STRING = new Uint8Array(256).fill(CONTROL, 0, 0x20).fill(NON_ASCII, 0x80);
IN_STRING[0x22] = CLOSING;
IN_STRING[0x5c] = ESCAPE;

/** 1 for what may follow a backslash, but for u. */
export const SHORT_ESCAPE = new Uint8Array(256);
for (const byte of Buffer.from('"\\/bfnrt')) SHORT_ESCAPE[byte] = 1;

const HEX_VALUES = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) {
  for (const digit of [value.toString(16), value.toString(16).toUpperCase()]) HEX_VALUES[digit.charCodeAt(0)] = value;
}

/** The UTF-16 unit of four hexadecimal digits; -1 when they are none. */
export function hexUnit(bytes: Uint8Array, at: number): number {
  let unit = 0;
  for (let i = at; i < at + 4; i++) {
    const value = HEX_VALUES[bytes[i] ?? 0] as number;
    if (value < 0) return -1;
    unit = unit * 16 + value;
  }
  return unit;
}

/** An escaped pair, half a pair, or another escape: alternatives that begin alike and do not go back. */
const ESCAPES = /\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)/g;

/** JSON text with U+FFFD for each escaped half of a surrogate pair, which UTF-8 has not. */
export function withoutHalfPairs(text: string): string {
  return text.replace(ESCAPES, (match, half) => (half === undefined ? match : "\uFFFD"));
}

/** Index of the first byte that begins no character of UTF-8; the length when there is none. */
export function firstNotUtf8(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at] as number;
    const second = bytes[at + 1] ?? 0;
    const size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (size === 0) return at;
    for (let i = 1; i < size; i++) if (((bytes[at + i] ?? 0) & 0xc0) !== 0x80) return at;
    // Longer than need be, a surrogate, or beyond U+10FFFF.
    if ((first === 0xe0 && second < 0xa0) || (first === 0xed && second >= 0xa0)) return at;
    if ((first === 0xf0 && second < 0x90) || (first === 0xf4 && second >= 0x90)) return at;
    at += size;
  }
  return at;
}
