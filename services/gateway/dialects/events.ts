// clickpulse's POST /events: one JSON object, one event. Contract: status 200 {"status":"accepted"}, else {"error": …}.
import type { PropertyObject } from "#lib/events/properties.ts";
import { jsonTypeOf } from "#lib/events/properties.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import { busyError, HttpError } from "../http-request.ts";
import { type Ingest, type IngestRequest, IngestUnavailableError } from "../ingest.ts";

const FIELD_NAMES: FieldNames = {
  id: "id",
  event: "event_type",
  distinctId: "user_id",
  source: "source",
  value: "value",
  properties: "properties",
};
const KNOWN = new Set(["event_type", "source", "user_id", "value", "created_at", "id", "properties"]);

/** Stores the event of a decoded body. Throws HttpError: 400 naming the field, 413 for one event too large, 503. */
export async function acceptEvent(
  ingest: Ingest,
  body: Uint8Array,
  request: Pick<IngestRequest, "facts" | "traceparent">,
): Promise<void> {
  const input = readEvent(parseObject(body));
  let verdict: Awaited<ReturnType<Ingest["publish"]>>;
  try {
    verdict = await ingest.publish({ ...request, events: [input], names: FIELD_NAMES, dialect: "events" });
  } catch (error) {
    if (error instanceof IngestUnavailableError) throw busyError(error.message, error);
    throw error;
  }
  const rejected = verdict.rejected[0];
  if (rejected)
    throw new HttpError(rejected.code === "too_large" ? 413 : 400, `${rejected.field}: ${rejected.message}`);
}

function parseObject(body: Uint8Array): PropertyObject {
  if (body.length === 0) throw new HttpError(400, "body: is empty; send one JSON object");
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : "the bytes are not UTF-8";
    throw new HttpError(400, `body: is not JSON: ${reason}`, { cause: error });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new HttpError(400, `body: must be one JSON object, not ${jsonTypeOf(parsed)}`);
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
  if (value === undefined) throw new HttpError(400, `${field}: is required`);
  if (typeof value !== "string") throw new HttpError(400, `${field}: must be a string, not ${jsonTypeOf(value)}`);
  if (value.trim() === "") throw new HttpError(400, `${field}: must not be blank`);
  return value;
}

function optionalText(object: PropertyObject, field: string): string {
  const value = object[field];
  if (value === undefined) return "";
  if (typeof value !== "string") throw new HttpError(400, `${field}: must be a string, not ${jsonTypeOf(value)}`);
  return value;
}

function optionalNumber(object: PropertyObject, field: string): number | undefined {
  const value = object[field];
  if (value === undefined) return undefined;
  if (typeof value !== "number") throw new HttpError(400, `${field}: must be a number, not ${jsonTypeOf(value)}`);
  if (!Number.isFinite(value)) throw new HttpError(400, `${field}: must be a finite number`);
  return value;
}

function requiredTime(object: PropertyObject, field: string): EventTime {
  const text = requiredText(object, field);
  const us = parseRfc3339(text);
  if (us === undefined) {
    const shown = text.slice(0, 40);
    throw new HttpError(
      400,
      `${field}: "${shown}" is no RFC 3339 date-time with Z or an offset, like 2026-03-27T12:00:00Z`,
    );
  }
  return { us, text: () => text };
}

/** `properties` as they are, joined by every field the contract does not know, so that nothing a caller sends is lost. */
function readProperties(object: PropertyObject): PropertyObject {
  const given = object.properties === undefined ? {} : object.properties;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new HttpError(400, `properties: must be an object, not ${jsonTypeOf(given)}`);
  }
  const unknown = Object.keys(object).filter((key) => !KNOWN.has(key));
  if (unknown.includes("__proto__")) throw new HttpError(400, "__proto__: is not allowed as a key");
  if (unknown.length === 0) return given as PropertyObject;
  const properties: PropertyObject = { ...given };
  // A field named like one of the properties is the one that does not win: what is under `properties` was meant so.
  for (const key of unknown) if (!Object.hasOwn(properties, key)) properties[key] = object[key];
  return properties;
}
