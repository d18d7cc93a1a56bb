// Reads an event's properties, once: an object within the limits, and what is lifted out of it.
import { type JsonCursor, type JsonText, textOf } from "./json-cursor.ts";
import { JsonFault, shownKey } from "./json-fault.ts";
import { JsonNames } from "./json-keys.ts";
import { createJsonScanner } from "./json-scanner.ts";
import type { EventLimits } from "./limits.ts";
import { fault, type RuleFault } from "./rule-fault.ts";

export type PropertyObject = Record<string, unknown>;

/** What is read of the properties before they are stored; "" where there is none. */
export interface Lifted {
  sessionId: string;
  windowId: string;
  elementsChain: string;
  currentUrl: string;
  host: string;
  anonDistinctId: string;
  deviceId: string;
  /** Where some clients say who it was. */
  distinctId: string;
}

/** Properties that have been read: an object within the limits. */
export class CheckedProperties {
  readonly json: JsonText;
  readonly lifted: Lifted;

  constructor(json: JsonText, lifted: Lifted) {
    this.json = json;
    this.lifted = lifted;
  }

  text(): string {
    return textOf(this.json);
  }
}

/** What a caller sent as properties: JSON text, an object made of a message, or what a dialect has read already. */
export type PropertiesInput = string | PropertyObject | CheckedProperties | undefined;

export interface PropertiesReader {
  /** Of the object at the cursor. What breaks the rules is left for its `takeFault`. */
  atCursor(cursor: JsonCursor, limits: EventLimits): CheckedProperties;
  /** `overflowIsNull`: in an object, numbers beyond a double's range are stored as null instead of being refused. */
  check(
    input: PropertiesInput,
    field: string,
    limits: EventLimits,
    overflowIsNull?: boolean,
  ): CheckedProperties | RuleFault;
}

/** Each name is followed by the one that counts where the first has no text, or only blanks. */
const LIFTED = [
  ...["$session_id", "session_id", "$window_id", "window_id", "$elements_chain", "elements_chain"],
  ...["$current_url", "current_url", "$host", "host", "$anon_distinct_id", "anon_distinct_id"],
  ...["distinct_id", "$distinct_id", "$device_id"],
];
const NAMES = new JsonNames(LIFTED);
const NOTHING: Readonly<Lifted> = {
  ...{ sessionId: "", windowId: "", elementsChain: "", currentUrl: "", host: "" },
  ...{ anonDistinctId: "", deviceId: "", distinctId: "" },
};
const EMPTY = new CheckedProperties({ bytes: Buffer.from("{}"), from: 0, to: 2 }, NOTHING);

/**
 * Reads properties once: a JSON object within the limits. Its text is stored as it was sent, but for half a surrogate
 * pair, which UTF-8 has not: that becomes U+FFFD.
 */
export function createPropertiesReader(cursor: JsonCursor = createJsonScanner()): PropertiesReader {
  const found: string[] = [];

  function atCursor(at: JsonCursor, limits: EventLimits): CheckedProperties {
    let isAny = false;
    at.beginBounds({ keys: limits.propertyKeys, levels: limits.propertyDepth });
    at.enter();
    while (at.nextMember(NAMES)) {
      const { name } = at;
      if (name < 0 || at.kind() !== "string") {
        at.skip();
        continue;
      }
      if (!isAny) found.length = 0;
      isAny = true;
      found[name] = at.text();
    }
    return new CheckedProperties(at.endBounds(), isAny ? liftedOf(found) : NOTHING);
  }

  function ofText(text: string, field: string, limits: EventLimits): CheckedProperties | RuleFault {
    // Before a byte of it is looked at.
    if (text.length > limits.eventBytes) return tooLarge(field, text.length, limits);
    try {
      cursor.open(Buffer.from(text));
      const kind = cursor.kind();
      if (kind !== "object") {
        cursor.skip();
        cursor.close();
        return fault("invalid", field, `must be a JSON object, not ${articled(kind)}`);
      }
      const root = cursor.position();
      const properties = atCursor(cursor, limits);
      cursor.close();
      const found = cursor.takeFault(root);
      return found ? within(field, found) : properties;
    } catch (error) {
      if (error instanceof JsonFault) return fault("invalid", field, error.message);
      throw error;
    }
  }

  function check(
    input: PropertiesInput,
    field: string,
    limits: EventLimits,
    overflowIsNull = false,
  ): CheckedProperties | RuleFault {
    if (input === undefined || input === "") return EMPTY;
    let properties: CheckedProperties | RuleFault;
    if (input instanceof CheckedProperties) properties = input;
    else if (typeof input === "string") properties = ofText(input, field, limits);
    else {
      const unwritable = unwritableIn(input, field, limits, overflowIsNull);
      if (unwritable) return unwritable;
      properties = ofText(JSON.stringify(input), field, limits);
    }
    if ("fault" in properties) return properties;
    const bytes = properties.json.to - properties.json.from;
    return bytes > limits.eventBytes ? tooLarge(field, bytes, limits) : properties;
  }

  return { atCursor, check };
}

/** The field that a fault within it is told by. */
export function within(field: string, found: RuleFault): RuleFault {
  const path = [field, ...found.field.split(".").slice(0, 3)];
  return { ...found, field: path.filter((part) => part !== "").join(".") };
}

function liftedOf(found: readonly (string | undefined)[]): Lifted {
  const first = (index: number) => {
    const text = found[index] ?? "";
    return text.trim() === "" ? unlessBlank(found[index + 1]) : text;
  };
  return {
    sessionId: first(0),
    windowId: first(2),
    elementsChain: first(4),
    currentUrl: first(6),
    host: first(8),
    anonDistinctId: first(10),
    distinctId: first(12),
    deviceId: unlessBlank(found[14]),
  };
}

function unlessBlank(text: string | undefined): string {
  return text === undefined || text.trim() === "" ? "" : text;
}

/** What JSON.stringify would write as something else, or not end at: only objects of protobuf messages can have it. */
function unwritableIn(
  object: unknown,
  field: string,
  limits: EventLimits,
  overflowIsNull: boolean,
  depth = 1,
): RuleFault | undefined {
  if (typeof object === "number" && !Number.isFinite(object) && !overflowIsNull) {
    return fault("invalid", field, `is ${object}; JSON has finite numbers only`);
  }
  if (typeof object !== "object" || object === null) return undefined;
  if (depth > limits.propertyDepth) {
    const start = field.split(".").slice(0, 4).join(".");
    return fault("too_complex", start, `is nested deeper than ${limits.propertyDepth} levels`);
  }
  for (const [key, value] of Object.entries(object)) {
    if (typeof value !== "object" && typeof value !== "number") continue;
    const found = unwritableIn(value, `${field}.${shownKey(key)}`, limits, overflowIsNull, depth + 1);
    if (found) return found;
  }
  return undefined;
}

function tooLarge(field: string, bytes: number, limits: EventLimits): RuleFault {
  return fault("too_large", field, `has ${bytes} bytes; one event may have ${limits.eventBytes}`);
}

/** "a string", "an object", "null". */
function articled(kind: string): string {
  if (kind === "null") return kind;
  return `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind}`;
}

export function jsonTypeOf(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "absent";
  return articled(Array.isArray(value) ? "array" : typeof value);
}
