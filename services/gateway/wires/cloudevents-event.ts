// One CloudEvent 1.0 to an event: structured (an object of JSON) or binary (attributes in headers, data as the body).
import { isUtf8 } from "node:buffer";
import { type HashedMember, withNeverLifted } from "#lib/events/added-properties.ts";
import { parseUuid, uuidV5 } from "#lib/events/ids.ts";
import type { JsonCursor, JsonKind, JsonText } from "#lib/events/json-cursor.ts";
import { hashOf, JsonNames } from "#lib/events/json-keys.ts";
import { withMembers } from "#lib/events/json-members.ts";
import { articled, type CheckedProperties } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, FieldNames } from "#lib/events/validate.ts";
import { eventBounds, type JsonReading, readJsonBody } from "../json-body.ts";

export const CLOUDEVENT_FIELDS: FieldNames = {
  id: "id",
  event: "type",
  distinctId: "subject",
  source: "source",
  value: "value",
  properties: "data",
};

const NAMESPACE = parseUuid("1f9cc9ca-1384-4cc2-b8f1-c5253d70b642") as Uint8Array;
/** What a CloudEvents attribute is called among the properties: those of the data have the other names. */
const PREFIX = "ce_";

const ATTRIBUTES = ["specversion", "id", "source", "type", "subject", "time"];
const [SPECVERSION, ID, SOURCE, TYPE, SUBJECT, TIME] = [0, 1, 2, 3, 4, 5];
const NAMES = new JsonNames([...ATTRIBUTES, "data"]);
const DATA = ATTRIBUTES.length;
const DATA_KEY = keyOf("data");
const ID_KEY = keyOf(`${PREFIX}id`);
/** As CloudEvents knows them, with PREFIX; those that were met first. */
const KEYS = new Map<string, MemberKey>();
const KEYS_MAX = 1000;
const NAME_CHARS_MAX = 64;

type MemberKey = Pick<HashedMember, "key" | "hash">;

interface Members {
  /** By index in ATTRIBUTES. */
  attributes: (string | undefined)[];
  /** The attribute `id`. */
  id: JsonText | undefined;
  /** An object. */
  data: CheckedProperties | undefined;
  /** Extensions, and what the data is said to be. */
  more: HashedMember[];
  fault: RuleFault | undefined;
}

function noMembers(): Members {
  return { attributes: [], id: undefined, data: undefined, more: [], fault: undefined };
}

/** Of the value at the cursor. */
export function readStructured(json: JsonReading): EventInput | RuleFault {
  const { cursor, limits } = json;
  const kind = cursor.kind();
  if (kind !== "object") {
    cursor.skip();
    return fault("invalid", "", `must be an object, not ${articled(kind)}`);
  }
  const root = cursor.position();
  const members = noMembers();
  cursor.beginBounds({ ...eventBounds(limits), passNaN: true });
  cursor.enter();
  while (cursor.nextMember(NAMES)) {
    const { name } = cursor;
    if (name === DATA) readData(json, members);
    else readAttribute(cursor, members, name, cursor.kind());
  }
  cursor.endBounds();
  const broken = cursor.takeFault(root);
  return members.fault ?? broken ?? eventOf(members, json);
}

function readAttribute(cursor: JsonCursor, members: Members, name: number, kind: JsonKind): void {
  // As if it were not there: CloudEvents' JSON format says so.
  if (kind === "null") cursor.skip();
  else if (name < 0) {
    const { key, hash } = prefixed(cursor.key());
    members.more.push({ key, hash, value: cursor.slice() });
  } else if (kind === "string") {
    members.attributes[name] = cursor.text();
    if (name === ID) members.id = cursor.textJson();
  } else {
    members.fault ??= fault("invalid", NAMES.at(name), `must be a string, not ${articled(kind)}`);
    cursor.skip();
  }
}

/** `attributes` by name without "ce-"; `type` is the media type of the data. Throws Refused for data that is not JSON. */
export function readBinary(
  json: JsonReading,
  attributes: ReadonlyMap<string, string>,
  type: string,
  body: Buffer,
): EventInput | RuleFault {
  const { cursor } = json;
  const members = noMembers();
  for (const [name, text] of attributes) {
    const at = ATTRIBUTES.indexOf(name);
    if (at >= 0) members.attributes[at] = text;
    else members.more.push({ ...prefixed(name), value: textJson(text) });
  }
  if (body.length === 0) return eventOf(members, json);
  if (isJsonType(type)) {
    readJsonBody(cursor, body, 0, () => {
      const root = cursor.position();
      readData(json, members);
      members.fault = cursor.takeFault(root);
    });
  } else if (type.startsWith("text/") && isUtf8(body)) {
    members.more.push({ ...DATA_KEY, value: textJson(body.toString()) });
  } else {
    members.more.push({ ...keyOf("data_base64"), value: textJson(body.toString("base64")) });
  }
  if (!isJsonType(type)) members.more.push({ ...prefixed("datacontenttype"), value: textJson(type) });
  return members.fault ?? eventOf(members, json);
}

/** Of the value at the cursor: an object is the properties, anything but null is one of them. */
function readData({ cursor, properties, limits }: JsonReading, members: Members): void {
  const kind = cursor.kind();
  if (kind === "object") members.data = properties.atCursor(cursor, limits, true);
  else if (kind === "null") cursor.skip();
  else members.more.push({ ...DATA_KEY, value: cursor.slice() });
}

/** Data of an event that names no type is JSON. */
function isJsonType(type: string): boolean {
  return type === "" || type === "application/json" || type === "text/json" || type.endsWith("+json");
}

function eventOf(members: Members, { inner, limits }: JsonReading): EventInput | RuleFault {
  const { attributes, data, more } = members;
  const specversion = attributes[SPECVERSION];
  const id = attributes[ID] ?? "";
  const source = attributes[SOURCE] ?? "";
  const time = attributes[TIME];
  if (specversion !== "1.0") {
    const given = specversion === undefined ? "absent" : JSON.stringify(specversion.slice(0, 20));
    return fault(specversion === undefined ? "missing" : "invalid", "specversion", `must be "1.0", and is ${given}`);
  }
  if (id === "") return fault("missing", "id", "must not be empty: it is unique within its source");
  if (source.trim() === "") return fault("missing", "source", "must not be blank: the id is unique within it");
  const us = time === undefined ? undefined : parseRfc3339(time);
  if (time !== undefined && us === undefined) {
    const shown = JSON.stringify(time.slice(0, 40));
    return fault("invalid", "time", `${shown} is not an RFC 3339 date-time like 2026-03-27T12:00:00Z`);
  }
  more.push({ key: ID_KEY.key, hash: ID_KEY.hash, value: members.id ?? textJson(id) });
  return {
    event: attributes[TYPE] ?? "",
    distinctId: attributes[SUBJECT] ?? "",
    source,
    value: undefined,
    // The first space ends the source, so that no other source and id are the same name; a URI has none of its own.
    id: uuidV5(NAMESPACE, `${source.replaceAll(" ", "%20")} ${id}`),
    time: us === undefined ? undefined : { us, text: () => time ?? "" },
    properties: data ? withNeverLifted(data, more, inner, limits) : withMembers(undefined, more, inner),
  };
}

/** JSON's format has the bytes of other data in `data_base64`, which keeps its name. */
function prefixed(name: string): MemberKey {
  const known = KEYS.get(name);
  if (known) return known;
  const key = keyOf(name === "data_base64" ? name : `${PREFIX}${name}`);
  // A copy: a slice would keep the request's whole text alive.
  if (KEYS.size < KEYS_MAX && name.length <= NAME_CHARS_MAX) KEYS.set(Buffer.from(name).toString(), key);
  return key;
}

function keyOf(name: string): MemberKey {
  const key = textJson(name);
  return { key, hash: key.bytes.includes("\\") ? undefined : hashOf(Buffer.from(name)) };
}

function textJson(text: string): JsonText {
  const bytes = Buffer.from(JSON.stringify(text));
  return { bytes, from: 0, to: bytes.length };
}
