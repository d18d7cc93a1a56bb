// Lines of JSON to events, each judged for itself: one that cannot be read costs none of its neighbours.
import { type JsonKind, textOf } from "#lib/events/json-cursor.ts";
import { JsonFault } from "#lib/events/json-fault.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { type JsonMember, MERGED, withMembers } from "#lib/events/json-members.ts";
import { articled, type CheckedProperties } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { parseDateText } from "#lib/events/time.ts";
import type { EventInput, EventTime } from "#lib/events/validate.ts";
import { eventBounds, type JsonReading } from "../json-body.ts";

const TEXTS = ["event", "distinct_id", "timestamp", "uuid"] as const;
const NAMES = new JsonNames([...TEXTS, "properties"]);
const PROPERTIES = TEXTS.length;
const [LF, SPACE] = [0x0a, 0x20];

export interface Lines {
  /** As many as one request may have. */
  events: (EventInput | RuleFault)[];
  /** How many there are; a line of nothing but white space is none. */
  length: number;
}

/** `name` is the event's where a line has none of its own. */
export function readLines(json: JsonReading, body: Buffer, name: string, maxEvents: number): Lines {
  const lines: Lines = { events: [], length: 0 };
  for (let from = 0; from < body.length; ) {
    const found = body.indexOf(LF, from);
    const to = found < 0 ? body.length : found;
    const line = body.subarray(from, to);
    from = to + 1;
    if (line.every((byte) => byte <= SPACE)) continue;
    if (lines.length++ < maxEvents) lines.events.push(readLine(json, line, name));
  }
  return lines;
}

interface Members {
  /** By index in TEXTS. */
  texts: (string | undefined)[];
  properties: CheckedProperties | undefined;
  more: JsonMember[];
  fault: RuleFault | undefined;
}

function readLine(json: JsonReading, line: Buffer, name: string): EventInput | RuleFault {
  const { cursor, limits } = json;
  const members: Members = { texts: [], properties: undefined, more: [], fault: undefined };
  try {
    cursor.open(line);
    const kind = cursor.kind();
    if (kind !== "object") return fault("invalid", "", `must be a JSON object, not ${articled(kind)}`);
    const root = cursor.position();
    cursor.beginBounds({ ...eventBounds(limits), passNaN: true });
    cursor.enter();
    while (cursor.nextMember(NAMES)) readMember(json, members, cursor.kind());
    cursor.endBounds();
    cursor.close();
    const broken = members.fault ?? cursor.takeFault(root);
    return broken ?? eventOf(json, members, name);
  } catch (error) {
    if (error instanceof JsonFault) return fault("invalid", "", error.message);
    throw error;
  }
}

function readMember({ cursor, properties, limits }: JsonReading, members: Members, kind: JsonKind): void {
  const { name } = cursor;
  if (name < 0) {
    members.more.push({ key: cursor.keyText(), value: cursor.slice() });
  } else if (kind === "null") {
    cursor.skip();
  } else if (name === PROPERTIES) {
    if (kind === "object") members.properties = properties.atCursor(cursor, limits);
    else refuse(members, name, "an object", kind, () => cursor.skip());
  } else if (kind === "string") {
    members.texts[name] = cursor.text();
  } else if (kind === "number" && TEXTS[name] === "distinct_id") {
    members.texts[name] = textOf(cursor.slice());
  } else {
    refuse(members, name, "a string", kind, () => cursor.skip());
  }
}

function refuse(members: Members, name: number, wanted: string, kind: JsonKind, pass: () => void): void {
  members.fault ??= fault("invalid", NAMES.at(name), `must be ${wanted}, not ${articled(kind)}`);
  pass();
}

/** All that has no other meaning is a property; of two by one name the one under `properties` stays, of two `$set` both. */
function eventOf({ inner }: JsonReading, { texts, properties, more }: Members, name: string): EventInput | RuleFault {
  const [event = name, distinctId = "", timestamp = "", uuid = ""] = texts;
  // Some clients say it among the properties.
  const said = distinctId.trim() === "" ? properties?.lifted.distinctId : undefined;
  const time = timeOf(timestamp);
  if (time && "fault" in time) return time;
  const all = more.length === 0 ? properties : withMembers(properties?.json, more, inner, MERGED);
  return { id: uuid, event, distinctId: said || distinctId, source: "", value: undefined, time, properties: all };
}

function timeOf(text: string): EventTime | RuleFault | undefined {
  if (text === "") return undefined;
  const us = parseDateText(text);
  if (us !== undefined) return { us, text: () => text };
  const shown = JSON.stringify(text.slice(0, 40));
  const remedy = 'write it like "2026-03-27T12:00:00Z" or leave it out';
  return fault("invalid", "timestamp", `${shown} cannot be read as a time; ${remedy}`);
}
