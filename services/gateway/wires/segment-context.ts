// The context of a Segment message: kept whole as the property `context`, and read for what Millrace's own properties say.
import { type Added, type AddedKey, type AddedName, addedKey } from "#lib/events/added-properties.ts";
import { type JsonCursor, type JsonText, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import type { JsonReading } from "../json-body.ts";

const [TRAITS, GROUP] = ["traits", "groupId"] as const;
type Target = AddedName | typeof TRAITS | typeof GROUP;
type Table = Readonly<Record<string, Target | Readonly<Record<string, AddedName>>>>;

/** Where in a context, to which property; docs/wires.md has the same table. */
export const CONTEXT_PROPERTIES = {
  library: { name: "$lib", version: "$lib_version" },
  page: { url: "$current_url", path: "$pathname", host: "$host", referrer: "$referrer", title: "$title" },
  campaign: {
    ...{ source: "utm_source", medium: "utm_medium", name: "utm_campaign", term: "utm_term", content: "utm_content" },
  },
  app: { name: "$app_name", version: "$app_version", build: "$app_build" },
  os: { name: "$os", version: "$os_version" },
  device: { type: "$device_type", manufacturer: "$device_manufacturer", model: "$device_model" },
  screen: { width: "$screen_width", height: "$screen_height" },
  ip: "$ip",
  locale: "$locale",
  timezone: "$timezone",
  userAgent: "$raw_user_agent",
  sessionId: "$session_id",
} as const satisfies Table;

const [CURRENT_URL, HOST, SESSION_ID, CONTEXT] = [
  ...[addedKey("$current_url"), addedKey("$host"), addedKey("$session_id"), addedKey("context")],
] as const;

interface Section {
  names: JsonNames;
  /** By index of the name: a property, or what is read of an object. */
  targets: readonly (AddedKey | typeof TRAITS | typeof GROUP | Section)[];
}

function sectionOf(table: Table): Section {
  const targets = Object.values(table).map((target) => {
    if (typeof target !== "string") return sectionOf(target);
    return target === TRAITS || target === GROUP ? target : addedKey(target);
  });
  return { names: new JsonNames(Object.keys(table)), targets };
}

const ROOT = sectionOf({ ...CONTEXT_PROPERTIES, [TRAITS]: TRAITS, [GROUP]: GROUP });

export interface Context {
  said: Added[];
  /** RudderStack's clients put those of a person here. */
  traits: JsonText | undefined;
  groupId: string;
}

/** Of the object at the cursor. */
export function contextAt({ cursor, limits }: JsonReading): Context {
  const context: Context = { said: [], traits: undefined, groupId: "" };
  cursor.beginBounds({ keys: limits.propertyKeys, levels: limits.propertyDepth - 1 });
  readSection(cursor, ROOT, context);
  const { said } = context;
  const url = said.find(({ key }) => key === CURRENT_URL);
  if (url && !said.some(({ key }) => key === HOST)) {
    const host = hostOf(JSON.parse(textOf(url.value)) as string);
    if (host !== undefined) said.push(saidText(HOST, host));
  }
  said.push({ key: CONTEXT, value: cursor.endBounds() });
  return context;
}

function readSection(cursor: JsonCursor, { names, targets }: Section, context: Context): void {
  cursor.enter();
  while (cursor.nextMember(names)) {
    const target = cursor.name < 0 ? undefined : targets[cursor.name];
    if (target === undefined) cursor.skip();
    else if (typeof target === "string" || !("names" in target)) readTarget(cursor, target, context);
    else if (cursor.kind() === "object") readSection(cursor, target, context);
    else cursor.skip();
  }
}

function readTarget(cursor: JsonCursor, target: AddedKey | typeof TRAITS | typeof GROUP, context: Context): void {
  const kind = cursor.kind();
  if (target === TRAITS) {
    const value = cursor.slice();
    if (kind === "object") context.traits = value;
  } else if (kind === "string") {
    const value = cursor.slice();
    if (value.to - value.from === 2) return;
    if (target === GROUP) context.groupId = JSON.parse(textOf(value)) as string;
    else context.said.push({ key: target, value });
  } else if (kind === "number") {
    const value = cursor.slice();
    if (target === GROUP) context.groupId = textOf(value);
    // Sessions are text with us and numbers with RudderStack.
    else context.said.push(target === SESSION_ID ? saidText(target, textOf(value)) : { key: target, value });
  } else {
    cursor.skip();
  }
}

/** Undefined when the address has none. */
function hostOf(url: string): string | undefined {
  return /^https?:\/\/(?:[^/?#@]*@)?([^/?#]+)/i.exec(url)?.[1];
}

export function saidText(key: AddedKey, text: string): Added {
  const bytes = Buffer.from(JSON.stringify(text));
  return { key, text, value: { bytes, from: 0, to: bytes.length } };
}
