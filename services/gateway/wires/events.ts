// clickpulse's POST /events: one JSON object, one event. Contract: status 200 {"status":"accepted"}, else {"error": …}.
import { type JsonKind, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { type JsonMember, MERGED, withMembers } from "#lib/events/json-members.ts";
import { articled, type CheckedProperties } from "#lib/events/properties.ts";
import { fault as ruleFault } from "#lib/events/rule-fault.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Edge, Entry } from "../edge.ts";
import type { Ingest } from "../ingest.ts";
import { eventBounds, faultError, type JsonReading, readJsonBody } from "../json-body.ts";
import { Refused, refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { publishAll, wantsPositions } from "./publish-all.ts";

const FIELD_NAMES: FieldNames = {
  id: "id",
  event: "event_type",
  distinctId: "user_id",
  source: "source",
  value: "value",
  properties: "properties",
};
const NAMES = new JsonNames(["event_type", "source", "user_id", "value", "created_at", "id", "properties"]);
const [EVENT, SOURCE, USER, VALUE, TIME, ID, PROPERTIES] = [0, 1, 2, 3, 4, 5, 6];

export function createEventsWire(edge: Edge, { ingest, json }: { ingest: Ingest; json: JsonReading }): Wire {
  function store(entry: Entry, body: Uint8Array, request: HttpRequest, traceparent: string | undefined) {
    const facts = entry.admit(1, false);
    const events = [readEvent(json, body)];
    const order = { events, names: FIELD_NAMES, facts, dialect: WIRES.events.dialect, traceparent };
    return publishAll(ingest, { ...order, wantsPositions: wantsPositions(request) }, "ids");
  }

  return {
    async answer(request, { traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.events);
      const verdict = await store(entry, await entry.readBody(), request, traceparent);
      const [rejected] = verdict.rejected;
      if (!rejected) return { status: "accepted", ...(verdict.positions && { position: verdict.positions[0] }) };
      const detail = { field: rejected.field, fault: rejected.message };
      throw refused(rejected.code === "too_large" ? "too_large" : "invalid", detail);
    },
    refusalBody: ({ message }) => ({ error: message }),
  };
}

/** The members of the body, as far as they have the right types. */
interface Members {
  /** By index in NAMES. */
  texts: (string | undefined)[];
  value: number | undefined;
  properties: CheckedProperties | undefined;
  /** Those that the contract does not know. */
  more: JsonMember[];
  /** The first of the wrong type. */
  error: Refused | undefined;
}

function readEvent(json: JsonReading, body: Uint8Array): EventInput {
  if (body.length === 0) throw invalid("body", "is empty; send one JSON object");
  const members = readJsonBody(json.cursor, body, 0, () => readMembers(json));
  try {
    return inputOf(json, members);
  } catch (error) {
    const [id, event] = [members.texts[ID] ?? "", members.texts[EVENT] ?? ""];
    if (error instanceof Refused) error.faults = error.faults.map((found) => ({ ...found, of: { id, event } }));
    throw error;
  }
}

function inputOf(json: JsonReading, members: Members): EventInput {
  if (members.error) throw members.error;
  const { texts, value } = members;
  return {
    id: texts[ID] ?? "",
    event: required(texts[EVENT], "event_type"),
    source: required(texts[SOURCE], "source"),
    distinctId: texts[USER] ?? "",
    value,
    time: readTime(required(texts[TIME], "created_at"), "created_at"),
    properties: joined(json, members),
  };
}

function readMembers(json: JsonReading): Members {
  const { cursor, limits } = json;
  const members: Members = { texts: [], value: undefined, properties: undefined, more: [], error: undefined };
  const kind = cursor.kind();
  if (kind !== "object") {
    cursor.skip();
    return { ...members, error: invalid("body", `must be one JSON object, not ${articled(kind)}`) };
  }
  const root = cursor.position();
  cursor.beginBounds(eventBounds(limits));
  cursor.enter();
  while (cursor.nextMember(NAMES)) readMember(json, members);
  cursor.endBounds();
  const broken = cursor.takeFault(root);
  if (broken) members.error ??= faultError(broken);
  return members;
}

function readMember({ cursor, properties, limits }: JsonReading, members: Members): void {
  const { name } = cursor;
  if (name < 0) {
    members.more.push({ key: cursor.keyText(), value: cursor.slice() });
    return;
  }
  const kind = cursor.kind();
  const wanted: JsonKind = name === VALUE ? "number" : name === PROPERTIES ? "object" : "string";
  if (kind !== wanted) {
    members.error ??= invalid(cursor.key(), `must be ${articled(wanted)}, not ${articled(kind)}`);
    cursor.skip();
  } else if (name === PROPERTIES) {
    members.properties = properties.atCursor(cursor, limits);
  } else if (name === VALUE) {
    members.value = Number(textOf(cursor.slice()));
  } else {
    members.texts[name] = cursor.text();
  }
}

/** `properties` as they are, joined by every field the contract does not know, so that nothing a caller sends is lost. */
function joined({ inner }: JsonReading, { properties, more }: Members): EventInput["properties"] {
  // A field named like one of the properties is the one that does not win: what is under `properties` was meant so.
  return more.length === 0 ? properties : withMembers(properties?.json, more, inner, MERGED);
}

function required(text: string | undefined, field: string): string {
  if (text === undefined) throw invalid(field, "is required");
  if (text.trim() === "") throw invalid(field, "must not be blank");
  return text;
}

function readTime(text: string, field: string): EventTime {
  const us = parseRfc3339(text);
  if (us !== undefined) return { us, text: () => text };
  const fault = `"${text.slice(0, 40)}" is no RFC 3339 date-time with Z or an offset, like 2026-03-27T12:00:00Z`;
  throw invalid(field, fault);
}

function invalid(field: string, fault: string): Refused {
  const error = refused("invalid", { field, fault });
  error.faults = [ruleFault("invalid", field, fault)];
  return error;
}
