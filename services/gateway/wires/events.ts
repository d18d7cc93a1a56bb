// clickpulse's POST /events: one JSON object, one event. Contract: status 200 {"status":"accepted"}, else {"error": …}.
import type { PropertyObject } from "#lib/events/properties.ts";
import { jsonTypeOf } from "#lib/events/properties.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import type { Edge } from "../edge.ts";
import { type Ingest, IngestUnavailableError } from "../ingest.ts";
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";

const FIELD_NAMES: FieldNames = {
  id: "id",
  event: "event_type",
  distinctId: "user_id",
  source: "source",
  value: "value",
  properties: "properties",
};
const DIALECT = "events";
const KNOWN = new Set(["event_type", "source", "user_id", "value", "created_at", "id", "properties"]);

export function createEventsWire(edge: Edge, ingest: Ingest): Wire {
  return {
    dialect: DIALECT,
    async answer(request, { traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, { dialect: DIALECT, access: "key", json: true });
      const body = await entry.readJson();
      const facts = entry.admit(1, false);
      const events = [readEvent(parseObject(body))];
      const verdict = await ingest
        .publish({ events, names: FIELD_NAMES, facts, dialect: DIALECT, traceparent })
        .catch((error: unknown) => {
          throw error instanceof IngestUnavailableError ? refused("log_away", { ids: "ids" }, error) : error;
        });
      const [rejected] = verdict.rejected;
      if (!rejected) return { status: "accepted" };
      const detail = { field: rejected.field, fault: rejected.message };
      throw refused(rejected.code === "too_large" ? "too_large" : "invalid", detail);
    },
    refusalBody: ({ message }) => ({ error: message }),
  };
}

function parseObject(body: Uint8Array): PropertyObject {
  if (body.length === 0) throw invalid("body", "is empty; send one JSON object");
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : "the bytes are not UTF-8";
    throw refused("invalid", { field: "body", fault: `is not JSON: ${reason}` }, error);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw invalid("body", `must be one JSON object, not ${jsonTypeOf(parsed)}`);
  }
  return parsed as PropertyObject;
}

function readEvent(object: PropertyObject): EventInput {
  return {
    id: optionalText(object, "id"),
    event: requiredText(object, "event_type"),
    source: requiredText(object, "source"),
    distinctId: optionalText(object, "user_id"),
    value: optionalNumber(object, "value"),
    time: requiredTime(object, "created_at"),
    properties: readProperties(object),
  };
}

function requiredText(object: PropertyObject, field: string): string {
  const value = object[field];
  if (value === undefined) throw invalid(field, "is required");
  if (typeof value !== "string") throw invalid(field, `must be a string, not ${jsonTypeOf(value)}`);
  if (value.trim() === "") throw invalid(field, "must not be blank");
  return value;
}

function optionalText(object: PropertyObject, field: string): string {
  const value = object[field];
  if (value === undefined) return "";
  if (typeof value !== "string") throw invalid(field, `must be a string, not ${jsonTypeOf(value)}`);
  return value;
}

function optionalNumber(object: PropertyObject, field: string): number | undefined {
  const value = object[field];
  if (value === undefined) return undefined;
  if (typeof value !== "number") throw invalid(field, `must be a number, not ${jsonTypeOf(value)}`);
  if (!Number.isFinite(value)) throw invalid(field, "must be a finite number");
  return value;
}

function requiredTime(object: PropertyObject, field: string): EventTime {
  const text = requiredText(object, field);
  const us = parseRfc3339(text);
  if (us === undefined) {
    const shown = text.slice(0, 40);
    throw invalid(field, `"${shown}" is no RFC 3339 date-time with Z or an offset, like 2026-03-27T12:00:00Z`);
  }
  return { us, text: () => text };
}

/** `properties` as they are, joined by every field the contract does not know, so that nothing a caller sends is lost. */
function readProperties(object: PropertyObject): PropertyObject {
  const given = object.properties === undefined ? {} : object.properties;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid("properties", `must be an object, not ${jsonTypeOf(given)}`);
  }
  const unknown = Object.keys(object).filter((key) => !KNOWN.has(key));
  if (unknown.includes("__proto__")) throw invalid("__proto__", "is not allowed as a key");
  if (unknown.length === 0) return given as PropertyObject;
  const properties: PropertyObject = { ...given };
  // A field named like one of the properties is the one that does not win: what is under `properties` was meant so.
  for (const key of unknown) if (!Object.hasOwn(properties, key)) properties[key] = object[key];
  return properties;
}

function invalid(field: string, fault: string) {
  return refused("invalid", { field, fault });
}
