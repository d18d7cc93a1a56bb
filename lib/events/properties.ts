// Checks an event's properties, once, against the limits.
import type { EventLimits } from "./limits.ts";
import { fault, type RuleFault } from "./rule-fault.ts";

export type PropertyObject = Record<string, unknown>;

/** What the caller sent as properties: JSON text (checked here), or an object a dialect has already parsed. */
export type PropertiesInput = string | PropertyObject | undefined;

export interface CheckedProperties {
  object: PropertyObject;
  /** JSON text of the object on one line, without unpaired surrogates. */
  json: string;
}

const EMPTY: CheckedProperties = { object: {}, json: "{}" };
/** An escaped surrogate; whether it stands alone or in a pair is left to the slow path. */
const SURROGATE_ESCAPE = /\\u[dD][89a-fA-F]/;

/**
 * Reads properties once: an object, within limits, without `__proto__` keys. JSON text is passed on as it came (numbers
 * keep their digits) unless it has line breaks or escaped surrogates; then, and for objects, it is written anew.
 * `overflowIsNull`: of an object, numbers beyond a double's range are stored as null instead of being refused.
 */
export function checkProperties(
  input: PropertiesInput,
  field: string,
  limits: EventLimits,
  overflowIsNull = false,
): CheckedProperties | RuleFault {
  if (input === undefined || input === "") return EMPTY;
  const isText = typeof input === "string";
  let parsed: unknown = input;
  if (isText) {
    if (input.length > limits.eventBytes) return tooLarge(field, input.length, limits);
    try {
      parsed = JSON.parse(input);
    } catch (error) {
      return fault("invalid", field, `is no JSON text: ${(error as SyntaxError).message}`);
    }
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return fault("invalid", field, `must be a JSON object, not ${jsonTypeOf(parsed)}`);
  }
  const object = parsed as PropertyObject;
  const walk: Walk = { keysLeft: limits.propertyKeys, field, limits, overflowIsNull: overflowIsNull && !isText };
  const found = walkObject(object, 1, "", walk);
  if (found) return found;
  if (isText && !needsRewriting(input)) return { object, json: input };
  return { object, json: wellFormedJson(object) };
}

interface Walk {
  keysLeft: number;
  field: string;
  limits: EventLimits;
  overflowIsNull: boolean;
}

function walkObject(object: PropertyObject, depth: number, path: string, walk: Walk): RuleFault | undefined {
  if (depth > walk.limits.propertyDepth) return tooDeep(path, walk);
  for (const key of Object.keys(object)) {
    if (--walk.keysLeft < 0) {
      return fault("too_complex", walk.field, `has more than ${walk.limits.propertyKeys} keys at all levels together`);
    }
    if (key === "__proto__") return fault("invalid", `${walk.field}${path}.__proto__`, "is not allowed as a key");
    const found = walkValue(object[key], depth, path, key, walk);
    if (found) return found;
  }
  return undefined;
}

function walkValue(value: unknown, depth: number, path: string, key: string, walk: Walk): RuleFault | undefined {
  if (typeof value === "number") {
    if (Number.isFinite(value) || walk.overflowIsNull) return undefined;
    return fault("invalid", `${walk.field}${path}.${shown(key)}`, `is ${value}; JSON has finite numbers only`);
  }
  if (typeof value !== "object" || value === null) return undefined;
  const inner = `${path}.${shown(key)}`;
  if (!Array.isArray(value)) return walkObject(value as PropertyObject, depth + 1, inner, walk);
  if (depth + 1 > walk.limits.propertyDepth) return tooDeep(inner, walk);
  for (let i = 0; i < value.length; i++) {
    const item: unknown = value[i];
    if (typeof item !== "object" && typeof item !== "number") continue;
    const found = walkValue(item, depth + 1, inner, String(i), walk);
    if (found) return found;
  }
  return undefined;
}

function tooDeep(path: string, walk: Walk): RuleFault {
  const start = path.split(".").slice(0, 4).join(".");
  return fault("too_complex", `${walk.field}${start}`, `is nested deeper than ${walk.limits.propertyDepth} levels`);
}

function tooLarge(field: string, bytes: number, limits: EventLimits): RuleFault {
  return fault("too_large", field, `has ${bytes} bytes; one event may have ${limits.eventBytes}`);
}

/**
 * White space around or between tokens is JSON, but what record-json.ts takes begins and ends with a brace and has no
 * control characters. `includes` before the pattern: it is many times as fast, and most texts have no escape at all.
 */
function needsRewriting(json: string): boolean {
  if (json[0] !== "{" || json[json.length - 1] !== "}") return true;
  if (json.includes("\n") || json.includes("\r") || json.includes("\t")) return true;
  return json.includes("\\u") && SURROGATE_ESCAPE.test(json);
}

/** JSON.stringify with each unpaired surrogate replaced by U+FFFD, in keys and values, as UTF-8 encoding would. */
function wellFormedJson(object: PropertyObject): string {
  const json = JSON.stringify(object);
  if (!json.includes("\\u") || !SURROGATE_ESCAPE.test(json)) return json;
  // JSON.stringify escapes unpaired surrogates and no others. An escaped backslash is matched whole, so that the text
  // `\\ud800` (six characters a caller meant) is left alone.
  return json.replace(/\\(?:u(d[89a-f][0-9a-f]{2})|.)/g, (match, half) => (half ? "\uFFFD" : match));
}

export function jsonTypeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  if (value === undefined) return "absent";
  return `a ${typeof value}`;
}

/** A caller's key in an error message: bounded, on one line. */
function shown(key: string): string {
  const short = key.length > 40 ? `${key.slice(0, 40)}…` : key;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach an error line.
  return short.toWellFormed().replace(/[\u0000-\u001f\u007f]/g, "?");
}
