// A JSON value as JavaScript has it, numbers with every digit. Not by JSON.parse: that guesses keys from objects it has read
// before, of this text or of any other, and takes a key with an escape for one that has a backslash.
import { type JsonCursor, textOf } from "./json-cursor.ts";
import { JsonNames } from "./json-keys.ts";

/** A number in its own digits: JSON.stringify writes it unchanged where a JavaScript number would be rounded. */
export interface ExactNumber {
  readonly rawJSON: string;
}

// TypeScript's library does not declare them yet; Node has both since version 22.
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(text: string): ExactNumber;
  isRawJSON(value: unknown): value is ExactNumber;
};

/** Events may have 32 levels; far more would take the stack. */
const LEVELS_MAX = 1000;
export const NO_NAMES = new JsonNames([]);

export function isExactNumber(value: unknown): value is ExactNumber {
  return isRawJSON(value);
}

/** Makes an object of the one at the cursor, whose members are at `level`. */
export type ObjectReader = (cursor: JsonCursor, level: number) => unknown;

/** Passes the value at the cursor. Throws JsonFault for what is not JSON, RangeError beyond 1,000 levels. */
export function valueAt(cursor: JsonCursor, level = 1, objectAt: ObjectReader = plainObjectAt): unknown {
  if (level > LEVELS_MAX) throw new RangeError("is nested too deeply");
  const kind = cursor.kind();
  if (kind === "object") return objectAt(cursor, level + 1);
  if (kind === "string") return cursor.text();
  if (kind === "array") {
    const items: unknown[] = [];
    cursor.enter();
    while (cursor.nextItem()) items.push(valueAt(cursor, level + 1, objectAt));
    return items;
  }
  const text = textOf(cursor.slice());
  if (kind === "null") return null;
  if (kind === "boolean") return text === "true";
  const number = Number(text);
  return String(number) === text ? number : rawJSON(text);
}

/** Of a key that is there twice the last counts. */
function plainObjectAt(cursor: JsonCursor, level: number): Record<string, unknown> {
  const entries: [string, unknown][] = [];
  cursor.enter();
  while (cursor.nextMember(NO_NAMES)) entries.push([cursor.key(), valueAt(cursor, level)]);
  return Object.fromEntries(entries);
}
