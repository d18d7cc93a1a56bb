// The body of POST /batch/ as the contract reads it (product-analytics, sections 1.4, 1.5 and 1.7): one wrong type
// anywhere refuses the whole request.
import { jsonTypeOf, type PropertyObject } from "#lib/events/properties.ts";
import { refused } from "../refusals.ts";

export interface BatchEvent {
  event?: string;
  distinct_id?: string;
  api_key?: string;
  timestamp?: string;
  properties?: PropertyObject;
  /** Of any type: one that is no UUID is ignored. */
  uuid?: unknown;
}

export interface Envelope {
  batch: readonly BatchEvent[];
  /** The one key of envelope and events, trimmed; "" when none has any. */
  key: string;
  /** Of any type: one that is no RFC 3339 time is ignored. */
  sentAt: unknown;
  /** As in PublishRequest; of another type than true or false it is ignored. */
  checkStored: boolean;
}

const TEXT_FIELDS = ["event", "distinct_id", "api_key", "timestamp"] as const;

/** Throws Refused. Bytes that are no UTF-8 become U+FFFD, a byte order mark is skipped. */
export function parseBody(bytes: Uint8Array): unknown {
  if (bytes.length === 0) throw refused("body_invalid", { field: "body", fault: 'is empty; send {"batch": [...]}' });
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
  let parsed: unknown;
  try {
    parsed = JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
  } catch (error) {
    throw refused("body_invalid", { field: "body", fault: `is not JSON: ${(error as SyntaxError).message}` }, error);
  }
  if (mayReachPrototype(text)) refusePrototypes(parsed);
  return parsed;
}

/** Throws Refused naming the first field at fault. */
export function readEnvelope(parsed: unknown): Envelope {
  const { batch, api_key, historical_migration, sent_at, check_stored } = objectOf(parsed, "body");
  if (!Array.isArray(batch))
    throw refused("invalid", { field: "batch", fault: `must be an array of events, not ${jsonTypeOf(batch)}` });
  if (batch.length === 0) throw refused("invalid", { field: "batch", fault: "must have at least one event" });
  if (api_key !== undefined) requireText(api_key, "api_key");
  if (historical_migration !== undefined && typeof historical_migration !== "boolean") {
    throw wrongType("historical_migration", "true or false", historical_migration);
  }
  const keys = new Set<string>();
  noteKey(keys, api_key as string | undefined);
  for (let index = 0; index < batch.length; index++) noteKey(keys, checkEventTypes(batch[index], index).api_key);
  if (keys.size > 1)
    throw refused("invalid", {
      field: "api_key",
      fault: "has different values in one request; send one request a key",
    });
  const [key = ""] = keys;
  return { batch: batch as BatchEvent[], key, sentAt: sent_at, checkStored: check_stored === true };
}

function checkEventTypes(event: unknown, index: number): BatchEvent {
  const object = typeof event === "object" && event !== null ? event : objectOf(event, `batch[${index}]`);
  if (Array.isArray(object)) objectOf(object, `batch[${index}]`);
  const fields = object as PropertyObject;
  for (const name of TEXT_FIELDS) {
    const value = fields[name];
    if (value !== undefined && typeof value !== "string") requireText(value, `batch[${index}].${name}`);
  }
  const { properties } = fields;
  if (
    properties !== undefined &&
    (typeof properties !== "object" || properties === null || Array.isArray(properties))
  ) {
    throw wrongType(`batch[${index}].properties`, "an object", properties);
  }
  return fields as BatchEvent;
}

function noteKey(keys: Set<string>, key: string | undefined): void {
  const trimmed = key === undefined ? "" : key.trim();
  if (trimmed !== "") keys.add(trimmed);
}

function objectOf(value: unknown, field: string): PropertyObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as PropertyObject;
  const wanted = field === "body" ? "an object with a batch array" : "an object";
  throw wrongType(field, wanted, value);
}

function requireText(value: unknown, field: string): void {
  if (typeof value !== "string") throw wrongType(field, "a string", value);
}

function wrongType(field: string, wanted: string, value: unknown) {
  return refused("invalid", {
    field,
    fault: `must be ${wanted}, not ${jsonTypeOf(value)}; leave it out if there is none`,
  });
}

/** Both `__proto__` and `prototype` hold "proto", unless spelled by escapes. Few bodies have either; those are searched. */
function mayReachPrototype(text: string): boolean {
  return text.includes("proto") || text.includes("\\u00");
}

/** What careless code copies into every object of a program, refused wherever it stands. */
function refusePrototypes(root: unknown): void {
  const open: unknown[] = [root];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (Array.isArray(value)) {
      for (const inner of value) if (isObject(inner)) open.push(inner);
    } else if (isObject(value)) {
      const object = value as PropertyObject;
      for (const key of Object.keys(object)) {
        const inner = object[key];
        if (key === "__proto__")
          throw refused("body_invalid", { field: "__proto__", fault: "is not allowed as a key" });
        if (!isObject(inner)) continue;
        if (key === "constructor" && Object.hasOwn(inner, "prototype")) {
          throw refused("body_invalid", { field: "constructor.prototype", fault: "is not allowed as a key" });
        }
        open.push(inner);
      }
    }
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
