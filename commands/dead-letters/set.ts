// `--set FIELD=VALUE`: what a replay is to make different.

import { didYouMean } from "#lib/config/suggest.ts";
import type { ReplayChanges } from "#lib/events/replay-record.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import { printable } from "#lib/process/printable.ts";

/** A `--set` that cannot be meant; the message names what can. */
export class SetError extends Error {
  override readonly name = "SetError";
}

type TextField = "event" | "distinctId" | "source";

const TEXT_FIELDS = new Map<string, TextField>([
  ["event", "event"],
  ["distinct_id", "distinctId"],
  ["source", "source"],
]);
const PROPERTY = "properties.";
const FIELDS = [...TEXT_FIELDS.keys(), "value", "time", "properties", `${PROPERTY}KEY`];
/** The consumer tells by these two whether an event is a row already. */
const IDENTITY = new Set(["id", "api_key"]);

/** Later ones win. Throws SetError; whether the event is a good one then is for the rules to say. */
export function parseChanges(settings: readonly string[]): ReplayChanges {
  const property = new Map<string, string>();
  const changes: ReplayChanges = { property };
  for (const setting of settings) {
    const equals = setting.indexOf("=");
    if (equals < 0) throw new SetError(`--set ${printable(setting)}: needs a value, --set FIELD=VALUE`);
    const [field, value] = [setting.slice(0, equals), setting.slice(equals + 1)];
    const textField = TEXT_FIELDS.get(field);
    if (textField) changes[textField] = value;
    else if (field === "value") changes.value = parseNumber(value);
    else if (field === "time") changes.time = { us: parseTime(value), text: () => value };
    else if (field === "properties") changes.properties = parseJson(field, value);
    else if (field.startsWith(PROPERTY)) property.set(propertyKey(field), parseJson(field, value));
    else throw unknownField(field);
  }
  return changes;
}

function propertyKey(field: string): string {
  const key = field.slice(PROPERTY.length);
  if (key === "") throw new SetError("--set properties.: needs a key, --set properties.KEY=JSON");
  return key;
}

function parseNumber(text: string): number | null {
  if (text === "null") return null;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw new SetError(`--set value=${printable(text)}: expected a finite number, or null for no value`);
}

function parseTime(text: string): number {
  const us = parseRfc3339(text);
  if (us !== undefined) return us;
  throw new SetError(`--set time=${printable(text)}: expected an RFC 3339 time such as 2026-03-27T12:00:00Z`);
}

function parseJson(field: string, text: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    const quoted = `'"${printable(text)}"'`;
    throw new SetError(`--set ${printable(field)}: expected JSON (a string is written ${quoted}, quotes included)`, {
      cause: error,
    });
  }
  const isObject = typeof parsed === "object" && parsed !== null && !Array.isArray(parsed);
  if (field === "properties" && !isObject) throw new SetError("--set properties: expected a JSON object");
  return text;
}

function unknownField(field: string): SetError {
  const shown = printable(field);
  if (IDENTITY.has(field)) {
    const why = "it says which event this is; with another one a second replay would be a second row";
    return new SetError(`--set ${shown}: cannot be changed: ${why}`);
  }
  return new SetError(`--set ${shown}: unknown field.${didYouMean(field, FIELDS)} Known: ${FIELDS.join(", ")}`);
}
