// Properties that a wire makes of what stands beside a caller's own, put behind them without reading those once more.
import { type JsonCursor, type JsonText, textOf } from "./json-cursor.ts";
import { hashOf } from "./json-keys.ts";
import { appendedTo, hasNoneOf, type JsonMember, MERGED, put, withMembers } from "./json-members.ts";
import type { EventLimits } from "./limits.ts";
import { CheckedProperties, EMPTY, type Lifted, type PropertiesInput } from "./properties.ts";

/** Those that are lifted as well, and where to. */
const LIFTED_BY = {
  $current_url: "currentUrl",
  $host: "host",
  $session_id: "sessionId",
  $window_id: "windowId",
  $anon_distinct_id: "anonDistinctId",
  $device_id: "deviceId",
} as const satisfies Record<string, keyof Lifted>;

/** What wires make of what a caller says elsewhere, beside what is lifted. */
type MadeName =
  | "$lib"
  | "$lib_version"
  | "$pathname"
  | "$referrer"
  | "$title"
  | "$app_name"
  | "$app_version"
  | "$app_build"
  | "$os"
  | "$os_version"
  | "$device_type"
  | "$device_manufacturer"
  | "$device_model"
  | "$screen_width"
  | "$screen_height"
  | "$ip"
  | "$locale"
  | "$timezone"
  | "$raw_user_agent"
  | "$screen_name"
  | "utm_source"
  | "utm_medium"
  | "utm_campaign"
  | "utm_term"
  | "utm_content"
  | "$set"
  | "$group_type"
  | "$group_key"
  | "$group_set"
  | "$groups"
  | "alias"
  | "category"
  | "context"
  | "messageId"
  | "name"
  | "$cookieless_mode"
  | "$process_person_profile"
  | "$product_tour_id";

export type AddedName = MadeName | keyof typeof LIFTED_BY | "$ignore_sent_at";

/** The name of a property that wires add, as it is written. */
export interface AddedKey {
  /** With quotes and colon. */
  bytes: Buffer;
  hash: number;
  /** Undefined: it is not lifted. */
  place: keyof Lifted | undefined;
}

const KEYS = new Map<AddedName, AddedKey>();

/** One for each name. */
export function addedKey(name: AddedName): AddedKey {
  let key = KEYS.get(name);
  if (!key) {
    const place = LIFTED_BY[name as keyof typeof LIFTED_BY] as keyof Lifted | undefined;
    key = { bytes: Buffer.from(`${JSON.stringify(name)}:`), hash: hashOf(Buffer.from(name)), place };
    KEYS.set(name, key);
  }
  return key;
}

/** JSON that was read already, at most a level less deep than properties may be. Of two by one name the first counts. */
export interface Added {
  key: AddedKey;
  value: JsonText;
  /** What the value says, where it is known to be a string. */
  text?: string;
}

/** No member is shorter: `"":0,`. */
const MEMBER_BYTES_MIN = 5;
const [END, COMMA, SPACE] = [0x7d, 0x2c, 0x20];
const [OPEN_BRACE, OPEN_BRACKET] = [0x7b, 0x5b];

/** A property of the caller's own by the same name stays; of two `$set` or `$set_once` one is made, in which the added one counts. Do not call it while `cursor` is within another text. */
export function withAdded(
  own: CheckedProperties = EMPTY,
  added: readonly Added[],
  cursor: JsonCursor,
  limits: EventLimits,
): PropertiesInput {
  if (added.length === 0) return own;
  if (!isUnique(added)) return withAdded(own, added.filter(isFirst), cursor, limits);
  let length = own.json.to - own.json.from;
  for (const { key, value } of added) length += key.bytes.length + value.to - value.from + 1;
  const members = () =>
    added.map(({ key: { bytes }, value }) => ({ key: { bytes, from: 0, to: bytes.length - 1 }, value }));
  const isNew = added.every(({ key }) => own.lacks(key.hash)) || hasNoneOf(own.json, members());
  // What could have too many keys in all is counted by reading it again.
  if (!isNew || length > MEMBER_BYTES_MIN * limits.propertyKeys) {
    return withMembers(own.json, members(), cursor, MERGED);
  }
  return new CheckedProperties(joined(own.json, added, length), liftedFrom(own.lifted, added));
}

function isUnique(added: readonly Added[]): boolean {
  for (let at = 1; at < added.length; at++) {
    for (let before = 0; before < at; before++) if (added[before]?.key === added[at]?.key) return false;
  }
  return true;
}

function isFirst({ key }: Added, at: number, added: readonly Added[]): boolean {
  return added.findIndex((other) => other.key === key) === at;
}

export interface HashedMember extends JsonMember {
  /** `hashOf` the key; undefined where it is spelled with escapes. */
  hash: number | undefined;
}

/** The same for members by names that are never lifted. */
export function withNeverLifted(
  own: CheckedProperties,
  members: readonly HashedMember[],
  cursor: JsonCursor,
  limits: EventLimits,
): PropertiesInput {
  let length = own.json.to - own.json.from;
  for (const { key, value } of members) length += key.to - key.from + value.to - value.from + 2;
  const isSmall = length <= MEMBER_BYTES_MIN * limits.propertyKeys && members.every(isScalar);
  if (!isSmall || !(hasNoneByHash(own, members) || hasNoneOf(own.json, members)))
    return withMembers(own.json, members, cursor);
  return new CheckedProperties(appendedTo(own.json, members), own.lifted);
}

/** More are looked for in the text. */
const HASHES_MAX = 16;

/** Neither the object nor the members before have a key of the same hash. */
function hasNoneByHash(own: CheckedProperties, members: readonly HashedMember[]): boolean {
  if (members.length > HASHES_MAX) return false;
  for (let at = 0; at < members.length; at++) {
    const hash = members[at]?.hash;
    if (hash === undefined || !own.lacks(hash)) return false;
    for (let before = 0; before < at; before++) if (members[before]?.hash === hash) return false;
  }
  return true;
}

/** What is neither can be too deep. */
function isScalar({ value: { bytes, from } }: JsonMember): boolean {
  return bytes[from] !== OPEN_BRACE && bytes[from] !== OPEN_BRACKET;
}

function joined(own: JsonText, added: readonly Added[], length: number): JsonText {
  const bytes = Buffer.allocUnsafe(length);
  let at = put(bytes, 0, own.bytes, own.from, own.to - 1);
  let isFirst = isEmpty(own);
  for (const { key, value } of added) {
    if (!isFirst) bytes[at++] = COMMA;
    isFirst = false;
    at = put(bytes, at, key.bytes, 0, key.bytes.length);
    at = put(bytes, at, value.bytes, value.from, value.to);
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
  for (const { key, value, text } of added) {
    if (key.place === undefined) continue;
    const said = text ?? (JSON.parse(textOf(value)) as unknown);
    // Text alone is lifted, whoever put it among the properties.
    if (typeof said !== "string" || said.trim() === "") continue;
    if (lifted === own) lifted = { ...own };
    (lifted as Record<keyof Lifted, unknown>)[key.place] = said;
  }
  return lifted;
}
