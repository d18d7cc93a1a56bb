// What is refused of an EventService message while it is still bytes: more events and values than may become objects, and
// JSON whose fault the library would tell without saying of which event, or not see at all.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import type { JsonCursor, JsonKind } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { articled } from "#lib/events/properties.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import { readJsonBody } from "../json-body.ts";
import { refused } from "../refusals.ts";

/** A value of a Struct takes two bytes to send and some two hundred as an object. */
const VALUES_MAX = 1_000_000;
const VALUE_BYTES_MIN = 2;
/** Of nested messages, as the library has it. */
const LEVELS_MAX = 100;

/** Number of the field that has the events, by path. */
const EVENTS_FIELDS = new Map(
  [EventService.method.publish, EventService.method.publishStream].map(({ name, input }) => [
    `/${EventService.typeName}/${name}`,
    input.fields.find((field) => field.name === "events")?.number ?? 0,
  ]),
);

const TOP_NAMES = new JsonNames(["events"]);
const TEXT: readonly JsonKind[] = ["string", "null"];
/** What the JSON of an event may be, by the field's names. A field it lacks has no other name. */
const KINDS: Readonly<Record<string, readonly JsonKind[]>> = {
  ...{ id: TEXT, event: TEXT, distinctId: TEXT, distinct_id: TEXT, source: TEXT, time: TEXT },
  ...{
    propertiesJson: TEXT,
    properties_json: TEXT,
    properties: ["object", "null"],
    value: ["number", "string", "null"],
  },
};
const NAMES = new JsonNames(Object.keys(KINDS));
const TIME = NAMES.indexOf("time");
const VALUE = NAMES.indexOf("value");
const NO_NUMBERS = new Set(["NaN", "Infinity", "-Infinity"]);

export interface MessageCheckOptions {
  maxEvents: number;
  /** Of one message at a time. */
  cursor: JsonCursor;
}

/** Throws Refused. A message that is no protobuf, or no JSON object, is left for the library to refuse. */
export function createMessageCheck({ maxEvents, cursor }: MessageCheckOptions) {
  return (path: string, message: Buffer, isJson: boolean): void => {
    const field = EVENTS_FIELDS.get(path);
    if (field === undefined) return;
    const { events: count, values } = isJson ? countInJson(cursor, message) : countIn(message, field);
    if (values > VALUES_MAX) throw refused("too_large", { field: "events", fault: TOO_MANY_VALUES });
    if (count > maxEvents) throw refused("too_many", { field: "events", count, max: maxEvents });
  };
}

const TOO_MANY_VALUES = `have more than ${VALUES_MAX} values in their properties; send fewer events, or properties_json`;

function countInJson(cursor: JsonCursor, message: Buffer): { events: number; values: number } {
  const values = message.length > VALUES_MAX * VALUE_BYTES_MIN ? valuesOfJson(message) : 0;
  return { values, events: readJsonBody(cursor, message, 0, () => eventsOfJson(cursor)) };
}

/** Checks each event's fields, and counts the events. */
function eventsOfJson(cursor: JsonCursor): number {
  let count = 0;
  if (cursor.kind() !== "object") {
    cursor.skip();
    return 0;
  }
  cursor.enter();
  while (cursor.nextMember(TOP_NAMES)) {
    if (cursor.name < 0 || cursor.kind() !== "array") {
      cursor.skip();
      continue;
    }
    cursor.enter();
    while (cursor.nextItem()) {
      const field = `events[${count++}]`;
      if (cursor.kind() !== "object") throw wrongKind(field, ["object"], cursor.kind());
      checkEvent(cursor, field);
    }
  }
  return count;
}

function checkEvent(cursor: JsonCursor, at: string): void {
  cursor.enter();
  while (cursor.nextMember(NAMES)) {
    const { name } = cursor;
    const field = `${at}.${cursor.key().slice(0, 40)}`;
    if (name < 0) throw refused("invalid", { field, fault: "is unknown: an event has no such field" });
    const kinds = KINDS[NAMES.at(name)] as readonly JsonKind[];
    const kind = cursor.kind();
    if (!kinds.includes(kind)) throw wrongKind(field, kinds, kind);
    if (kind !== "string" || (name !== TIME && name !== VALUE)) cursor.skip();
    else if (name === TIME) checkTime(cursor.text(), field);
    else checkNumber(cursor.text(), field);
  }
}

/** The library moves 30 February into March. */
function checkTime(text: string, field: string): void {
  if (parseRfc3339(text) !== undefined) return;
  const fault = `"${text.slice(0, 40)}" is no time of RFC 3339 such as 2026-03-27T12:00:00Z, or does not exist`;
  throw refused("invalid", { field, fault });
}

function checkNumber(text: string, field: string): void {
  if (NO_NUMBERS.has(text) || (text.trim() === text && text !== "" && Number.isFinite(Number(text)))) return;
  throw refused("invalid", { field, fault: `must be a number, not "${text.slice(0, 40)}"` });
}

function wrongKind(field: string, kinds: readonly JsonKind[], kind: JsonKind) {
  return refused("invalid", { field, fault: `must be ${articled(kinds[0] as JsonKind)}, not ${articled(kind)}` });
}

/** Values at most: each but the first of an object or array is behind a comma. */
function valuesOfJson(text: Buffer): number {
  let [values, isString] = [0, false];
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    if (byte === 0x22) isString = !isString;
    else if (isString) at += byte === 0x5c ? 1 : 0;
    else if (byte === 0x2c || byte === 0x5b || byte === 0x7b) values++;
  }
  return values;
}

/** Fields of a message that are messages themselves and lead to values. */
type Kind = Map<number, Kind>;
const [EVENT, STRUCT, ENTRY, STRUCT_VALUE, LIST] = [kind(), kind(), kind(), kind(), kind()] as const;
EVENT.set(7, STRUCT);
STRUCT.set(1, ENTRY);
ENTRY.set(2, STRUCT_VALUE);
STRUCT_VALUE.set(5, STRUCT).set(6, LIST);
LIST.set(1, STRUCT_VALUE);

function kind(): Kind {
  return new Map();
}

/** Events and values of their properties; of what is no protobuf, as many as come before that shows. */
function countIn(message: Buffer, eventsField: number): { events: number; values: number } {
  const counts = { events: 0, values: 0 };
  const reader = new BinaryReader(message);
  const isLarge = message.length > VALUES_MAX * VALUE_BYTES_MIN;

  function walk(kind: Kind, end: number, levels: number): void {
    while (reader.pos < end) {
      const [field, type] = reader.tag();
      const inner = type === WireType.LengthDelimited ? kind.get(field) : undefined;
      if (!inner) {
        reader.skip(type, field, LEVELS_MAX - levels);
        continue;
      }
      const innerEnd = reader.uint32() + reader.pos;
      if (inner === EVENT) counts.events++;
      else if (inner === STRUCT_VALUE) counts.values++;
      if (!isLarge || levels === LEVELS_MAX || innerEnd > end) reader.pos = Math.min(innerEnd, end);
      else walk(inner, innerEnd, levels + 1);
    }
  }
  try {
    walk(new Map([[eventsField, EVENT]]), message.length, 1);
  } catch {
    // BinaryReader throws for nothing else than bytes that are no protobuf, which the library will refuse in its words.
  }
  return counts;
}
