// What the JSON dialects share: a body's bytes to a cursor, and faults to answers.

import type { JsonCursor } from "#lib/events/json-cursor.ts";
import { JsonFault, pathAt } from "#lib/events/json-fault.ts";
import { createPlainCursor } from "#lib/events/json-plain.ts";
import { createJsonScanner } from "#lib/events/json-scanner.ts";
import { EVENT_KEYS_MAX, type EventLimits } from "#lib/events/limits.ts";
import { createPropertiesReader, type PropertiesReader } from "#lib/events/properties.ts";
import type { RuleFault } from "#lib/events/rule-fault.ts";
import { type Refused, refused } from "./refusals.ts";

export interface JsonReading {
  /** Of one body at a time; nothing else is read before it is done. */
  cursor: JsonCursor;
  /** For what is put together while the cursor is within a body. */
  inner: JsonCursor;
  properties: PropertiesReader;
  limits: EventLimits;
}

/** `isPlain`: by JSON.parse, should the scanner have a fault. */
export function createJsonReading(limits: EventLimits, isPlain: boolean): JsonReading {
  const create = isPlain ? createPlainCursor : createJsonScanner;
  return { cursor: create(), inner: create(), properties: createPropertiesReader(create()), limits };
}

/** Bounds of one event: its properties have bounds of their own within these. */
export function eventBounds(limits: EventLimits) {
  return { keys: EVENT_KEYS_MAX, levels: limits.propertyDepth + 1 };
}

/** What `read` makes of the body. Throws Refused naming the byte and the member at which it is no JSON. */
export function readJsonBody<T>(cursor: JsonCursor, body: Uint8Array, from: number, read: () => T): T {
  try {
    cursor.open(body, from);
    const value = read();
    cursor.close();
    return value;
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    const path = pathAt(Buffer.from(body.buffer, body.byteOffset, body.length), from, error.at);
    const fault = `${error.message}${path === "" ? "" : ` (in ${path})`}`;
    throw refused("body_invalid", { field: "body", fault }, error);
  }
}

export function faultError({ fault, field, message }: RuleFault): Refused {
  return refused(fault === "too_large" ? "too_large" : "invalid", { field: field || "body", fault: message });
}
