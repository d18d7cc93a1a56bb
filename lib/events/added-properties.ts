// Properties that a wire makes of what stands beside a caller's own, put behind them without reading those once more.
import { type JsonCursor, type JsonText, textOf } from "./json-cursor.ts";
import { appendedTo, hasNoneOf, type JsonMember, withMembers } from "./json-members.ts";
import type { EventLimits } from "./limits.ts";
import { type ADDED_NAMES, CheckedProperties, EMPTY, type Lifted, type PropertiesInput } from "./properties.ts";

/** Those that are lifted as well, and where to. */
const LIFTED_BY = {
  $current_url: "currentUrl",
  $host: "host",
  $session_id: "sessionId",
  $window_id: "windowId",
  $anon_distinct_id: "anonDistinctId",
  $device_id: "deviceId",
} as const satisfies Record<string, keyof Lifted>;

export type AddedName = (typeof ADDED_NAMES)[number] | keyof typeof LIFTED_BY | "$ignore_sent_at";

/** JSON that was read already, at most a level less deep than properties may be. Of two by one name the first counts. */
export interface Added {
  name: AddedName;
  value: JsonText;
}

/** No member is shorter: `"":0,`. */
const MEMBER_BYTES_MIN = 5;
const [QUOTE_BYTES, END, COMMA, SPACE] = [2, 0x7d, 0x2c, 0x20];
const [OPEN_BRACE, OPEN_BRACKET] = [0x7b, 0x5b];
const KEYS = new Map<string, Buffer>();

/** Said in both places, properties of a person are all of them said. */
const MERGED: ReadonlySet<string> = new Set(["$set"]);

/** A property of the caller's own by the same name stays; of two `$set` one is made, in which the added one counts. Do not call it while `cursor` is within another text. */
export function withAdded(
  own: CheckedProperties = EMPTY,
  added: readonly Added[],
  cursor: JsonCursor,
  limits: EventLimits,
): PropertiesInput {
  if (added.length === 0) return own;
  const unique = added.filter(({ name }, at) => added.findIndex((other) => other.name === name) === at);
  const keys = unique.map(({ name }) => keyOf(name));
  let length = own.json.to - own.json.from;
  for (const [at, { value }] of unique.entries()) length += (keys[at] as Buffer).length + value.to - value.from + 1;
  const members = () => unique.map(({ value }, at) => ({ key: quotedOf(keys[at] as Buffer), value }));
  const isNew = own.hasNoAdded || hasNoneOf(own.json, members());
  // What could have too many keys in all is counted by reading it again.
  if (!isNew || length > MEMBER_BYTES_MIN * limits.propertyKeys) {
    return withMembers(own.json, members(), cursor, MERGED);
  }
  return new CheckedProperties(joined(own.json, unique, keys, length), liftedFrom(own.lifted, unique));
}

/** The same for members by names that are never lifted, which only the caller's own text can say whether it has. */
export function withNeverLifted(
  own: CheckedProperties,
  members: readonly JsonMember[],
  cursor: JsonCursor,
  limits: EventLimits,
): PropertiesInput {
  let length = own.json.to - own.json.from;
  for (const { key, value } of members) length += key.to - key.from + value.to - value.from + 2;
  const isSmall = length <= MEMBER_BYTES_MIN * limits.propertyKeys && members.every(isScalar);
  if (!isSmall || !hasNoneOf(own.json, members)) return withMembers(own.json, members, cursor);
  return new CheckedProperties(appendedTo(own.json, members), own.lifted);
}

/** What is neither can be too deep. */
function isScalar({ value: { bytes, from } }: JsonMember): boolean {
  return bytes[from] !== OPEN_BRACE && bytes[from] !== OPEN_BRACKET;
}

/** The name with quotes and colon. */
function keyOf(name: AddedName): Buffer {
  const known = KEYS.get(name);
  if (known) return known;
  const key = Buffer.from(`${JSON.stringify(name)}:`);
  KEYS.set(name, key);
  return key;
}

function quotedOf(key: Buffer): JsonText {
  return { bytes: key, from: 0, to: key.length - 1 };
}

function joined(own: JsonText, added: readonly Added[], keys: readonly Buffer[], length: number): JsonText {
  const bytes = Buffer.allocUnsafe(length);
  let at = own.bytes.copy(bytes, 0, own.from, own.to - 1);
  let isFirst = isEmpty(own);
  for (let i = 0; i < added.length; i++) {
    const { value } = added[i] as Added;
    if (!isFirst) bytes[at++] = COMMA;
    isFirst = false;
    at += (keys[i] as Buffer).copy(bytes, at);
    at += value.bytes.copy(bytes, at, value.from, value.to);
  }
  bytes[at++] = END;
  return { bytes, from: 0, to: at };
}

function isEmpty({ bytes, from, to }: JsonText): boolean {
  for (let i = from + 1; i < to - 1; i++) if ((bytes[i] as number) > SPACE) return false;
  return true;
}

function liftedFrom(own: Lifted, added: readonly Added[]): Lifted {
  let lifted = own;
  for (const { name, value } of added) {
    if (!(name in LIFTED_BY) || value.to - value.from === QUOTE_BYTES) continue;
    const text = JSON.parse(textOf(value)) as string;
    if (text.trim() === "") continue;
    if (lifted === own) lifted = { ...own };
    Object.assign(lifted, { [LIFTED_BY[name as keyof typeof LIFTED_BY]]: text });
  }
  return lifted;
}
