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
  /** The event's time is the caller's word, whatever its clock says elsewhere. */
  ignoresSentAt: boolean;
}

/** Properties that have been read: an object within the limits. */
export class CheckedProperties {
  readonly json: JsonText;
  readonly lifted: Lifted;
  /** `hashOf` each of its keys; undefined when nobody asked for them. */
  readonly #keyHashes: readonly number[] | undefined;

  constructor(json: JsonText, lifted: Lifted, keyHashes?: readonly number[]) {
    this.json = json;
    this.lifted = lifted;
    this.#keyHashes = keyHashes;
  }

  /** True only if none of its keys has this hash. */
  lacks(hash: number): boolean {
    return this.#keyHashes?.includes(hash) === false;
  }

  text(): string {
    return textOf(this.json);
  }
}

/** What a caller sent as properties: JSON text, an object made of a message, or what a dialect has read already. */
export type PropertiesInput = string | JsonText | PropertyObject | CheckedProperties | undefined;

export interface PropertiesReader {
  /** Of the object at the cursor. What breaks the rules is left for its `takeFault`. `keepsKeys`: they know what they lack. */
  atCursor(cursor: JsonCursor, limits: EventLimits, keepsKeys?: boolean): CheckedProperties;
  check(input: PropertiesInput, field: string, limits: EventLimits): CheckedProperties | RuleFault;
}

/** Each name is followed by the one that counts where the first has no text, or only blanks. */
const LIFTED = [
  ...["$session_id", "session_id", "$window_id", "window_id", "$elements_chain", "elements_chain"],
  ...["$current_url", "current_url", "$host", "host", "$anon_distinct_id", "anon_distinct_id"],
  ...["distinct_id", "$distinct_id", "$device_id"],
];
const IGNORE_SENT_AT = LIFTED.push("$ignore_sent_at") - 1;
const NAMES = new JsonNames(LIFTED);
/** More keys are not remembered. */
const KEYS_KEPT = 64;
/** As PostHog's clients write their switches. */
const IS_TRUE = new Set(["true", "1", '"true"', '"1"']);
const NOTHING: Readonly<Lifted> = {
  ...{ sessionId: "", windowId: "", elementsChain: "", currentUrl: "", host: "" },
  ...{ anonDistinctId: "", deviceId: "", distinctId: "", ignoresSentAt: false },
};
export const EMPTY = new CheckedProperties({ bytes: Buffer.from("{}"), from: 0, to: 2 }, NOTHING, []);

/**
 * Reads properties once: a JSON object within the limits. Its text is stored as it was sent, but for half a surrogate
 * pair, which UTF-8 has not: that becomes U+FFFD.
 */
export function createPropertiesReader(cursor: JsonCursor = createJsonScanner()): PropertiesReader {
  /** By the name's index. */
  const found: string[] = [];

  function atCursor(at: JsonCursor, limits: EventLimits, keepsKeys = false): CheckedProperties {
    let isAny = false;
    const hashes: number[] | undefined = keepsKeys ? [] : undefined;
    at.beginBounds({ keys: limits.propertyKeys, levels: limits.propertyDepth });
    at.enter();
    while (at.nextMember(NAMES)) {
      const { name } = at;
      const isSwitch = name === IGNORE_SENT_AT;
      if (hashes && hashes.length <= KEYS_KEPT) hashes.push(at.keyHash);
      if (name < 0 || (!isSwitch && at.kind() !== "string")) {
        at.skip();
        continue;
      }
      if (!isAny) found.length = 0;
      isAny = true;
      found[name] = isSwitch ? textOf(at.slice()) : at.text();
    }
    const known = hashes && hashes.length <= KEYS_KEPT ? hashes : undefined;
    return new CheckedProperties(at.endBounds(), isAny ? liftedOf(found) : NOTHING, known);
  }

  function ofText({ bytes, from, to }: JsonText, field: string, limits: EventLimits): CheckedProperties | RuleFault {
    // Before a byte of it is looked at.
    if (to - from > limits.eventBytes) return tooLarge(field, to - from, limits);
    try {
      cursor.open(bytes, from, to);
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

  function check(input: PropertiesInput, field: string, limits: EventLimits): CheckedProperties | RuleFault {
    if (input === undefined || input === "") return EMPTY;
    let properties: CheckedProperties | RuleFault;
    if (input instanceof CheckedProperties) properties = input;
    else if (typeof input === "string") properties = ofText(textAsBytes(input), field, limits);
    else if (isJsonText(input)) properties = ofText(input, field, limits);
    else {
      const unwritable = unwritableIn(input, field, limits);
      if (unwritable) return unwritable;
      properties = ofText(textAsBytes(JSON.stringify(input)), field, limits);
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

function textAsBytes(text: string): JsonText {
  const bytes = Buffer.from(text);
  return { bytes, from: 0, to: bytes.length };
}

function isJsonText(input: JsonText | PropertyObject): input is JsonText {
  return Buffer.isBuffer(input.bytes);
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
    ignoresSentAt: IS_TRUE.has(found[IGNORE_SENT_AT] ?? ""),
  };
}

function unlessBlank(text: string | undefined): string {
  return text === undefined || text.trim() === "" ? "" : text;
}

/** What JSON.stringify would write as something else, or not end at: only objects of protobuf messages can have it. */
function unwritableIn(object: unknown, field: string, limits: EventLimits, depth = 1): RuleFault | undefined {
  if (typeof object === "number" && !Number.isFinite(object)) {
    return fault("invalid", field, `is ${object}; JSON has finite numbers only`);
  }
  if (typeof object !== "object" || object === null) return undefined;
  if (depth > limits.propertyDepth) {
    const start = field.split(".").slice(0, 4).join(".");
    return fault("too_complex", start, `is nested deeper than ${limits.propertyDepth} levels`);
  }
  for (const [key, value] of Object.entries(object)) {
    if (typeof value !== "object" && typeof value !== "number") continue;
    const found = unwritableIn(value, `${field}.${shownKey(key)}`, limits, depth + 1);
    if (found) return found;
  }
  return undefined;
}

function tooLarge(field: string, bytes: number, limits: EventLimits): RuleFault {
  return fault("too_large", field, `has ${bytes} bytes; one event may have ${limits.eventBytes}`);
}

/** "a string", "an object", "null". */
export function articled(kind: string): string {
  if (kind === "null") return kind;
  return `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind}`;
}
