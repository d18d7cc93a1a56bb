// The text of a row's fields as it stood in the file, for properties that are stored as they were written: escapes, digits,
// white space within values, and the order of keys, which a JavaScript object does not keep.
import { type JsonText, textOf } from "#lib/events/json-cursor.ts";

export type Fields = Record<string, unknown>;

interface Member {
  /** With its quotes. */
  key: string;
  /** Undefined: the value is no longer what it was. */
  value: JsonText | undefined;
}

const kept = new WeakMap<object, ReadonlyMap<string, Member>>();

/** Remembers how the members of the object were written. */
export function keepTexts(fields: Fields, members: ReadonlyMap<string, Member>): Fields {
  kept.set(fields, members);
  return fields;
}

/** `copy` has members of `fields`, those named in `changed` with another value. */
export function copyTexts(copy: Fields, fields: Fields, changed: ReadonlySet<string>): Fields {
  const members = kept.get(fields);
  if (!members) return copy;
  const left = [...members].filter(([name]) => Object.hasOwn(copy, name));
  return keepTexts(
    copy,
    new Map(left.map(([name, member]) => [name, changed.has(name) ? { ...member, value: undefined } : member])),
  );
}

/** Members of both; those of `second` count where both have one. */
export function joinTexts(joined: Fields, first: Fields, second: Fields): Fields {
  const [one, other] = [kept.get(first), kept.get(second)];
  return one && other ? keepTexts(joined, new Map([...one, ...other])) : joined;
}

/** JSON text of the object. */
export function writeFields(fields: Fields): string {
  const members = kept.get(fields);
  if (!members) return JSON.stringify(fields);
  const parts = [...members].map(([name, { key, value }]) => `${key}:${value ? textOf(value) : written(fields[name])}`);
  return `{${parts.join(",")}}`;
}

function written(value: unknown): string {
  return typeof value === "object" && value !== null && kept.has(value)
    ? writeFields(value as Fields)
    : JSON.stringify(value);
}
