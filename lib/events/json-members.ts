// Members put into an object without changing the text of what is there already.
import { type JsonCursor, type JsonText, textOf } from "./json-cursor.ts";
import { JsonNames } from "./json-keys.ts";

export interface JsonMember {
  /** With its quotes. */
  key: JsonText;
  value: JsonText;
}

const EMPTY: JsonText = { bytes: Buffer.from("{}"), from: 0, to: 2 };
const [COLON, COMMA, END] = [0x3a, 0x2c, 0x7d];
const NO_NAMES = new JsonNames([]);

/** Said beside the properties and among them, properties of a person are all of them said. */
export const MERGED: ReadonlySet<string> = new Set(["$set", "$set_once"]);

/**
 * The object with these members behind its own; `object` undefined is an empty one. Where it has the key already, its own
 * value stays, except under `merged` keys: there two objects become one in which the new members count.
 * Throws JsonFault for what is no JSON. Do not call it while `cursor` is within another text.
 */
export function withMembers(
  object: JsonText | undefined,
  members: readonly JsonMember[],
  cursor: JsonCursor,
  merged: ReadonlySet<string> = new Set(),
): JsonText {
  if (!object || hasNoneOf(object, members)) return appendedTo(object ?? EMPTY, members);
  const own = membersOf(object, cursor);
  const pieces: string[] = [];
  const replaced = new Map<string, string>();
  for (const { key, value } of members) {
    const name = JSON.parse(textOf(key)) as string;
    const before = own.get(name);
    if (!before) pieces.push(`${textOf(key)}:${textOf(value)}`);
    else if (merged.has(name)) replaced.set(name, textOf(mergedObjects(before.value, value, cursor)));
  }
  const bytes = Buffer.from(replaced.size === 0 ? appended(object, own.size, pieces) : rebuilt(own, replaced, pieces));
  return { bytes, from: 0, to: bytes.length };
}

/** True only if no key of the object, at any level, is one of the members': then it need not be read once more. */
export function hasNoneOf({ bytes, from, to }: JsonText, members: readonly JsonMember[]): boolean {
  const text = bytes.subarray(from, to);
  // Spelled with escapes a key is another text.
  if (text.includes("\\u") || text.includes("\\/")) return false;
  const keys = members.map(({ key }) => key.bytes.subarray(key.from, key.to));
  if (keys.some((key) => key.includes("\\") || text.includes(key))) return false;
  return keys.every((key, at) => keys.findIndex((other) => other.equals(key)) === at);
}

export function appendedTo(object: JsonText, members: readonly JsonMember[]): JsonText {
  let length = object.to - object.from;
  for (const { key, value } of members) length += key.to - key.from + value.to - value.from + 2;
  const bytes = Buffer.allocUnsafe(length);
  let at = put(bytes, 0, object.bytes, object.from, object.to - 1);
  let isFirst = !object.bytes.subarray(object.from + 1, object.to - 1).some((byte) => byte > 0x20);
  for (const { key, value } of members) {
    if (!isFirst) bytes[at++] = COMMA;
    isFirst = false;
    at = put(bytes, at, key.bytes, key.from, key.to);
    bytes[at++] = COLON;
    at = put(bytes, at, value.bytes, value.from, value.to);
  }
  bytes[at++] = END;
  return { bytes, from: 0, to: at };
}

/** What is shorter is copied sooner than a call to copy it begins. */
const LOOPED_BYTES_MAX = 48;

/** Bytes [from, to) into `target` at `at`; where they end there. */
export function put(target: Uint8Array, at: number, bytes: Buffer, from: number, to: number): number {
  if (to - from > LOOPED_BYTES_MAX) return at + bytes.copy(target, at, from, to);
  for (let i = from; i < to; i++) target[at++] = bytes[i] as number;
  return at;
}

/** White space between the object's own members stays. */
function appended(object: JsonText | undefined, ownCount: number, pieces: readonly string[]): string {
  const text = object ? textOf(object) : "{}";
  if (pieces.length === 0) return text;
  return `${text.slice(0, -1)}${ownCount > 0 ? "," : ""}${pieces.join(",")}}`;
}

function rebuilt(
  own: ReadonlyMap<string, JsonMember>,
  replaced: ReadonlyMap<string, string>,
  pieces: readonly string[],
): string {
  const kept = [...own].map(([name, { key, value }]) => `${textOf(key)}:${replaced.get(name) ?? textOf(value)}`);
  return `{${[...kept, ...pieces].join(",")}}`;
}

/** The second where one of them is no object. */
function mergedObjects(first: JsonText, second: JsonText, cursor: JsonCursor): JsonText {
  if (![first, second].every(isObject)) return second;
  return withMembers(second, [...membersOf(first, cursor).values()], cursor);
}

function isObject({ bytes, from }: JsonText): boolean {
  return bytes[from] === 0x7b;
}

/** By key. A key that is there twice is one member here, the last. */
function membersOf({ bytes, from, to }: JsonText, cursor: JsonCursor): Map<string, JsonMember> {
  const members = new Map<string, JsonMember>();
  cursor.open(bytes, from, to);
  cursor.enter();
  while (cursor.nextMember(NO_NAMES)) {
    const name = cursor.key();
    members.set(name, { key: cursor.keyText(), value: cursor.slice() });
  }
  cursor.close();
  return members;
}
