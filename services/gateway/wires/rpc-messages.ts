// An EventService message while it is still bytes: it is refused for more events and values than may become objects, and as
// JSON for faults that the library would tell without saying of which event. Properties in JSON stay text from here on: the
// library reads them with JSON.parse, which rounds numbers and misreads keys (lib/events/json-value.ts).
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { type JsonCursor, type JsonKind, textOf } from "#lib/events/json-cursor.ts";
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
const PROPERTIES = NAMES.indexOf("properties");
const NO_NUMBERS = new Set(["NaN", "Infinity", "-Infinity"]);
/** The forms of RFC 3339 that the library reads; it has no leap second. */
const LIBRARY_TIME = /^.{10}T.{6}[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]..:..)$/;
/** Of the years 1 to 9999, which a Timestamp has. */
const [TIMESTAMP_US_MIN, TIMESTAMP_US_END] = [-62_135_596_800e6, 253_402_300_800e6];

export interface MessageCheckOptions {
  maxEvents: number;
  maxBytes: number;
  /** Of one message at a time. */
  cursor: JsonCursor;
}

/**
 * Returns what the library is to read in the message's place. Throws Refused. A message that is no protobuf, or no JSON
 * object, is left for the library to refuse.
 */
export function createMessageCheck({ maxEvents, maxBytes, cursor }: MessageCheckOptions) {
  return (path: string, message: Buffer, isJson: boolean): Buffer => {
    const field = EVENTS_FIELDS.get(path);
    if (field === undefined) return message;
    const { count, values, text } = isJson ? readJson(cursor, message, maxEvents) : countIn(message, field);
    if (values > VALUES_MAX) throw refused("too_large", { field: "events", fault: TOO_MANY_VALUES });
    if (count > maxEvents) throw refused("too_many", { field: "events", count, max: maxEvents });
    if (text === undefined) return message;
    const bytes = Buffer.from(text);
    if (bytes.length <= maxBytes) return bytes;
    // Only keys with an escape are misread.
    if (!message.includes(BACKSLASH)) return message;
    throw refused("too_large", { field: "events", fault: "are too large together; send fewer in a request" });
  };
}

const BACKSLASH = 0x5c;

interface Found {
  count: number;
  values: number;
  /** The same in JSON that the library reads as it was meant. */
  text?: string;
}

const TOO_MANY_VALUES = `have more than ${VALUES_MAX} values in their properties; send fewer events, or properties_json`;

function readJson(cursor: JsonCursor, message: Buffer, maxEvents: number): Found {
  const values = message.length > VALUES_MAX * VALUE_BYTES_MIN ? valuesOfJson(message) : 0;
  return { values, ...readJsonBody(cursor, message, 0, () => messageAt(cursor, maxEvents)) };
}

/** Checks each event's fields, and counts the events. */
function messageAt(cursor: JsonCursor, maxEvents: number): Omit<Found, "values"> {
  let count = 0;
  if (cursor.kind() !== "object") {
    cursor.skip();
    return { count };
  }
  const members: string[] = [];
  const root = cursor.position();
  cursor.enter();
  while (cursor.nextMember(TOP_NAMES)) {
    const broken = cursor.takeFault(root);
    if (broken) throw refused("invalid", { field: broken.field || "body", fault: broken.message });
    const key = textOf(cursor.keyText());
    if (cursor.name < 0 || cursor.kind() !== "array") {
      members.push(`${key}:${textOf(cursor.slice())}`);
      continue;
    }
    const events: string[] = [];
    cursor.enter();
    while (cursor.nextItem()) {
      const field = `events[${count++}]`;
      if (cursor.kind() !== "object") throw wrongKind(field, ["object"], cursor.kind());
      if (count <= maxEvents) events.push(eventAt(cursor, field));
      else cursor.skip();
    }
    members.push(`${key}:[${events.join(",")}]`);
  }
  return { count, text: `{${members.join(",")}}` };
}

/** What is null is as if it were not there. */
function eventAt(cursor: JsonCursor, at: string): string {
  const members: string[] = [];
  const root = cursor.position();
  let kindsOfProperties = 0;
  cursor.enter();
  while (cursor.nextMember(NAMES)) {
    const { name } = cursor;
    const field = `${at}.${cursor.key().slice(0, 40)}`;
    if (name < 0) throw refused("invalid", { field, fault: "is unknown: an event has no such field" });
    const kinds = KINDS[NAMES.at(name)] as readonly JsonKind[];
    const kind = cursor.kind();
    if (!kinds.includes(kind)) throw wrongKind(field, kinds, kind);
    if (kind === "null") {
      cursor.skip();
      continue;
    }
    if (NAMES.at(name).startsWith("properties") && ++kindsOfProperties > 1) {
      throw refused("invalid", { field, fault: "is there beside other properties; send one of them" });
    }
    members.push(memberText(cursor, name, kind, field));
  }
  const broken = cursor.takeFault(root);
  // Faults of the properties are told when they are read, as that event's alone.
  if (broken && !broken.field.startsWith("properties")) {
    throw refused("invalid", { field: `${at}.${broken.field}`, fault: broken.message });
  }
  return `{${members.join(",")}}`;
}

function memberText(cursor: JsonCursor, name: number, kind: JsonKind, field: string): string {
  if (name === PROPERTIES) return `"propertiesJson":${JSON.stringify(textOf(cursor.slice()))}`;
  const text = kind === "string" && (name === TIME || name === VALUE) ? cursor.text() : textOf(cursor.slice());
  if (name === TIME) return `"time":"${timeText(text, field)}"`;
  if (name === VALUE) checkNumber(text, field);
  return `"${NAMES.at(name)}":${name === VALUE && kind === "string" ? JSON.stringify(text) : text}`;
}

/** The library moves 30 February into March, and does not read every form. */
function timeText(text: string, field: string): string {
  // Without a fraction of the second, which a double of microseconds would round up to the year 10000.
  const secondUs = parseRfc3339(text) === undefined ? undefined : parseRfc3339(text.replace(/\.\d+/, ""));
  if (secondUs === undefined) {
    const fault = `"${text.slice(0, 40)}" is no time of RFC 3339 such as 2026-03-27T12:00:00Z, or does not exist`;
    throw refused("invalid", { field, fault });
  }
  if (secondUs < TIMESTAMP_US_MIN || secondUs >= TIMESTAMP_US_END) {
    throw refused("invalid", { field, fault: `"${text.slice(0, 40)}" is not within the years 1 to 9999` });
  }
  if (LIBRARY_TIME.test(text)) return text;
  const [fraction = ""] = /\.\d{1,9}/.exec(text) ?? [];
  return `${new Date(secondUs / 1000).toISOString().slice(0, 19)}${fraction}Z`;
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
function countIn(message: Buffer, eventsField: number): Found {
  const counts: Found = { count: 0, values: 0 };
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
      if (inner === EVENT) counts.count++;
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
