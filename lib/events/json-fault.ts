// Why a text is no JSON, and where in it something is.

/** The bytes are no JSON text, or not one that can be read. */
export class JsonFault extends Error {
  override readonly name = "JsonFault";
  /** Index of the byte at which it shows. */
  readonly at: number;

  constructor(reason: string, at: number) {
    super(`is not JSON: ${reason} at byte ${at}`);
    this.at = at;
  }
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

const PARTS_MAX = 4;
const KEY_CHARS_MAX = 40;

/**
 * Path, from the value at `from`, of what is at byte `at`: `properties.items.0`. For messages alone, so it is found by
 * walking once more, and only its first parts are told.
 */
export function pathAt(bytes: Buffer, from: number, at: number): string {
  const parts: (string | number)[] = [];
  let depth = 0;
  for (let i = from; i < at; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) {
      const end = endOfString(bytes, i + 1, at);
      // In an object a string is a key or a value, and the value does not follow a comma or the brace.
      if (depth > 0 && depth <= PARTS_MAX && parts[depth - 1] === "") parts[depth - 1] = keyAt(bytes, i, end);
      i = end;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
      if (depth <= PARTS_MAX) parts[depth - 1] = byte === OPEN_BRACE ? "" : 0;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      depth--;
      if (depth < PARTS_MAX) parts.length = Math.max(depth, 0);
    } else if (byte === COMMA && depth > 0 && depth <= PARTS_MAX) {
      const part = parts[depth - 1];
      parts[depth - 1] = typeof part === "number" ? part + 1 : "";
    }
  }
  return parts.filter((part) => part !== "").join(".");
}

/** Index of the quote that ends the string, or `to`. */
function endOfString(bytes: Buffer, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    if (bytes[i] === QUOTE) return i;
    if (bytes[i] === BACKSLASH) i++;
  }
  return to;
}

/** The key between two quotes, as an error message can show it: bounded, on one line. */
function keyAt(bytes: Buffer, from: number, to: number): string {
  const text = bytes.toString("utf8", from + 1, Math.min(to, from + 1 + 6 * KEY_CHARS_MAX));
  return shownKey(text.includes("\\") ? unescaped(text) : text);
}

function unescaped(text: string): string {
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    // Cut within an escape, or broken: shown as it was sent.
    return text;
  }
}

/** A caller's key in an error message: bounded, on one line. */
export function shownKey(key: string): string {
  const short = key.length > KEY_CHARS_MAX ? `${key.slice(0, KEY_CHARS_MAX)}…` : key;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach an error line.
  return short.toWellFormed().replace(/[\u0000-\u001f\u007f]/g, "?") || '""';
}
