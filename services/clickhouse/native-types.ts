// How long a column's data is in the format Native, by its type: needed to find where the next column begins.
import { endpointError } from "./errors.ts";

export interface NativeCursor {
  readonly bytes: Buffer;
  at: number;
}

/** LEB128, as both binary formats of ClickHouse write lengths; moves behind it. */
export function readVarint(cursor: NativeCursor): number {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = cursor.bytes[cursor.at++] ?? 0;
    value += (byte & 127) * factor;
    if (byte < 128) return value;
  }
}

interface Reader {
  /** Moves behind what stands once before the column's data. */
  prefix(cursor: NativeCursor): void;
  /** Moves behind the data of so many rows. */
  data(cursor: NativeCursor, rows: number): void;
}

const FIXED: Readonly<Record<string, number>> = {
  ...{ UInt8: 1, UInt16: 2, UInt32: 4, UInt64: 8, UInt128: 16, UInt256: 32, Bool: 1, Nothing: 1 },
  ...{ Int8: 1, Int16: 2, Int32: 4, Int64: 8, Int128: 16, Int256: 32, BFloat16: 2, Float32: 4, Float64: 8 },
  ...{ Date: 2, Date32: 4, DateTime: 4, DateTime64: 8, Time: 4, Time64: 8, UUID: 16, IPv4: 4, IPv6: 16 },
  ...{ Enum8: 1, Enum16: 2, Decimal32: 4, Decimal64: 8, Decimal128: 16, Decimal256: 32 },
};

const ALIASES: Readonly<Record<string, string>> = {
  Point: "Tuple(Float64, Float64)",
  ...{ Ring: "Array(Point)", LineString: "Array(Point)", Polygon: "Array(Ring)", MultiLineString: "Array(LineString)" },
  MultiPolygon: "Array(Polygon)",
};

/** Skips columns; remembers the types it has seen. */
export function createTypeReader(): (type: string, rows: number, cursor: NativeCursor) => void {
  const readers = new Map<string, Reader>();
  return (type, rows, cursor) => {
    let reader = readers.get(type);
    if (reader === undefined) {
      reader = readerOf(type);
      readers.set(type, reader);
    }
    reader.prefix(cursor);
    reader.data(cursor, rows);
  };
}

function readerOf(type: string): Reader {
  const { name, parts } = parseType(type);
  const size = sizeOf(name, parts);
  if (size !== undefined) return plain((cursor, rows) => move(cursor, size * rows));
  const alias = ALIASES[name];
  if (alias !== undefined) return readerOf(alias);
  const inner = () => readerOf(parts.at(-1) ?? "");
  switch (name) {
    case "JSON":
      return jsonText(type);
    case "String":
      return plain(skipTexts);
    case "Nullable":
      return nullable(inner());
    case "SimpleAggregateFunction":
      return inner();
    case "Array":
      return array(inner());
    case "Map":
      return array(tuple(parts.map(readerOf)));
    case "Tuple":
      return parts.length === 0 ? plain(move) : tuple(elements(parts));
    case "Nested":
      return array(tuple(elements(parts)));
    case "LowCardinality":
      return lowCardinality(readerOf(/^Nullable\((.*)\)$/s.exec(parts[0] ?? "")?.[1] ?? parts[0] ?? ""));
    default:
      throw unreadable(type);
  }
}

function unreadable(type: string) {
  const remedy = "Select it as toString(column).";
  return endpointError(
    48,
    `A column of type ${type} cannot be sent in Native with a client_protocol_version here. ${remedy}`,
  );
}

/** The version in which the values are texts: output_format_native_write_json_as_string. */
const JSON_AS_TEXT = 1;

function jsonText(type: string): Reader {
  return {
    prefix(cursor) {
      if (readUInt64(cursor, cursor.at) !== JSON_AS_TEXT) throw unreadable(type);
      move(cursor, 8);
    },
    data: skipTexts,
  };
}

function sizeOf(name: string, parts: readonly string[]): number | undefined {
  if (name === "FixedString") return Number(parts[0]);
  if (name.startsWith("Interval")) return 8;
  if (name !== "Decimal") return FIXED[name];
  const precision = Number(parts[0]);
  return precision <= 9 ? 4 : precision <= 18 ? 8 : precision <= 38 ? 16 : 32;
}

function move(cursor: NativeCursor, bytes: number): void {
  cursor.at += bytes;
}

function plain(data: Reader["data"]): Reader {
  return { prefix: () => undefined, data };
}

function skipTexts(cursor: NativeCursor, rows: number): void {
  const { bytes } = cursor;
  let { at } = cursor;
  for (let row = 0; row < rows; row++) {
    let length = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++] ?? 0;
      length += (byte & 127) * factor;
      if (byte < 128) break;
    }
    at += length;
  }
  cursor.at = at;
}

function nullable(inner: Reader): Reader {
  return {
    prefix: inner.prefix,
    data(cursor, rows) {
      cursor.at += rows;
      inner.data(cursor, rows);
    },
  };
}

function array(inner: Reader): Reader {
  return {
    prefix: inner.prefix,
    data(cursor, rows) {
      if (rows === 0) return;
      cursor.at += 8 * rows;
      // The offsets are cumulative: the last one counts all elements.
      inner.data(cursor, readUInt64(cursor, cursor.at - 8));
    },
  };
}

function tuple(readers: readonly Reader[]): Reader {
  return {
    prefix(cursor) {
      for (const reader of readers) reader.prefix(cursor);
    },
    data(cursor, rows) {
      for (const reader of readers) reader.data(cursor, rows);
    },
  };
}

const HAS_KEYS = 0x200;

/** A version; then, as long as there are rows: flags, the keys of a dictionary, and an index for each row. */
function lowCardinality(key: Reader): Reader {
  return {
    prefix: (cursor) => move(cursor, 8),
    data(cursor, rows) {
      for (let left = rows; left > 0; ) {
        const flags = cursor.bytes.readUInt32LE(cursor.at);
        cursor.at += 8;
        if ((flags & HAS_KEYS) !== 0) {
          cursor.at += 8;
          key.data(cursor, readUInt64(cursor, cursor.at - 8));
        }
        const indexes = readUInt64(cursor, cursor.at);
        cursor.at += 8 + indexes * 2 ** (flags & 0xff);
        left -= indexes;
      }
    },
  };
}

function readUInt64(cursor: NativeCursor, at: number): number {
  return Number(cursor.bytes.readBigUInt64LE(at));
}

/** Elements of a tuple may have names: `a UInt8`. */
function elements(parts: readonly string[]): Reader[] {
  return parts.map((part) => readerOf(split(part, " ").slice(-1)[0] ?? ""));
}

/** `Map(String, Array(UInt8))` is Map with the parts String and Array(UInt8). */
function parseType(type: string): { name: string; parts: string[] } {
  const open = type.indexOf("(");
  if (open < 0) return { name: type, parts: [] };
  const inside = type.slice(open + 1, -1);
  return { name: type.slice(0, open), parts: inside === "" ? [] : split(inside, ",").map((part) => part.trim()) };
}

/** Cuts at separators outside parentheses and quotes. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quote = "";
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (quote !== "") {
      if (character === "\\") at++;
      else if (character === quote) quote = "";
    } else if (character === "'" || character === "`") quote = character;
    else if (character === "(") depth++;
    else if (character === ")") depth--;
    else if (character === separator && depth === 0) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}
