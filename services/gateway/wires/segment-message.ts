// One message of Segment's protocol, as RudderStack and Jitsu speak it too, to an event; docs/wires.md has the mapping as a
// table. What a caller says under `properties` or `traits` stays as it was sent; what stands beside it is put behind it.
import { type Added, type AddedKey, addedKey, withAdded } from "#lib/events/added-properties.ts";
import { type JsonKind, type JsonText, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { articled, type CheckedProperties, type PropertiesInput } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { eventBounds, type JsonReading } from "../json-body.ts";
import { type Context, contextAt, saidText } from "./segment-context.ts";

export const MESSAGE_TYPES = ["track", "page", "screen", "identify", "group", "alias"] as const;
export type MessageType = (typeof MESSAGE_TYPES)[number];

export function isMessageType(text: string): text is MessageType {
  return (MESSAGE_TYPES as readonly string[]).includes(text);
}

/** What is known of a message before its key is: the id and the time are made of more than itself. */
export interface Message {
  event: string;
  distinctId: string;
  /** "" when there is none. */
  messageId: string;
  timestamp: string;
  sentAt: string;
  /** The time is right whatever the clocks say. */
  isFinal: boolean;
  properties: PropertiesInput;
}

/** Beside the message itself: "" where it has none. */
export interface Read {
  message: Message | RuleFault;
  writeKey: string;
}

const TEXTS = [
  ...["type", "event", "userId", "anonymousId", "groupId", "previousId", "name", "category"],
  ...["messageId", "originalTimestamp", "timestamp", "sentAt", "writeKey"],
] as const;
type Text = (typeof TEXTS)[number];
const MESSAGE_ID = TEXTS.indexOf("messageId");
const MESSAGE_ID_KEY = addedKey("messageId");
const [NAME, SCREEN_NAME, CATEGORY, ALIAS] = [
  ...[addedKey("name"), addedKey("$screen_name"), addedKey("category"), addedKey("alias")],
] as const;
const [SET, ANON_DISTINCT_ID, DEVICE_ID] = [addedKey("$set"), addedKey("$anon_distinct_id"), addedKey("$device_id")];
const [GROUPS, GROUP_TYPE_KEY] = [addedKey("$groups"), addedKey("$group_type")];
const [GROUP_KEY, GROUP_SET] = [addedKey("$group_key"), addedKey("$group_set")];
const NAMES = new JsonNames([...TEXTS, "properties", "traits", "context"]);
const PROPERTIES = TEXTS.length;
const CONTEXT = PROPERTIES + 2;

/** The members of a message, as far as they have the right types. */
interface Members {
  texts: Partial<Record<Text, string>>;
  /** The text `messageId`, where it is one. */
  messageId: JsonText | undefined;
  properties: CheckedProperties | undefined;
  traits: JsonText | undefined;
  context: Context | undefined;
  fault: RuleFault | undefined;
}

/** Of the value at the cursor. `pathType` is what the path says it is, which the message need not repeat. */
export function readMessage(json: JsonReading, pathType: MessageType | undefined): Read {
  const { cursor, limits } = json;
  const kind = cursor.kind();
  if (kind !== "object") {
    cursor.skip();
    return { message: fault("invalid", "", `must be an object, not ${articled(kind)}`), writeKey: "" };
  }
  const root = cursor.position();
  const members: Members = {
    texts: {},
    messageId: undefined,
    properties: undefined,
    traits: undefined,
    context: undefined,
    fault: undefined,
  };
  cursor.beginBounds({ ...eventBounds(limits), passNaN: true });
  cursor.enter();
  while (cursor.nextMember(NAMES)) readMember(json, members, cursor.name, cursor.kind());
  cursor.endBounds();
  const broken = cursor.takeFault(root);
  const message = members.fault ?? broken ?? messageOf(json, members, pathType);
  return { message, writeKey: members.texts.writeKey ?? "" };
}

function readMember(json: JsonReading, members: Members, name: number, kind: JsonKind): void {
  const { cursor, properties, limits } = json;
  if (name < 0 || kind === "null") {
    cursor.skip();
  } else if (name < PROPERTIES) {
    if (kind === "string") {
      members.texts[TEXTS[name] as Text] = cursor.text();
      if (name === MESSAGE_ID) members.messageId = cursor.textJson();
    }
    // Ids are numbers with some callers; the digits are the id.
    else if (kind === "number") members.texts[TEXTS[name] as Text] = textOf(cursor.slice());
    else refuse(members, name, "a string", kind, () => cursor.skip());
  } else if (kind !== "object") {
    refuse(members, name, "an object", kind, () => cursor.skip());
  } else if (name === CONTEXT) {
    members.context = contextAt(json);
  } else {
    if (name === PROPERTIES) members.properties = properties.atCursor(cursor, limits, true);
    // They are to be a level deeper.
    else members.traits = properties.atCursor(cursor, { ...limits, propertyDepth: limits.propertyDepth - 1 }).json;
  }
}

function refuse(members: Members, name: number, wanted: string, kind: JsonKind, pass: () => void): void {
  members.fault ??= fault("invalid", NAMES.at(name), `must be ${wanted}, not ${articled(kind)}`);
  pass();
}

function messageOf(
  { inner, limits }: JsonReading,
  members: Members,
  pathType: MessageType | undefined,
): Message | RuleFault {
  const { texts } = members;
  const type = pathType ?? texts.type ?? "";
  if (!isMessageType(type)) {
    const shown = JSON.stringify(type.slice(0, 40));
    return fault(
      type === "" ? "missing" : "invalid",
      "type",
      `must be one of ${MESSAGE_TYPES.join(", ")}, not ${shown}`,
    );
  }
  const userId = unlessBlank(texts.userId);
  const anonymousId = unlessBlank(texts.anonymousId);
  const distinctId = userId || anonymousId;
  if (distinctId === "" && type !== "group") {
    return fault("missing", "userId", "must not be blank, unless anonymousId says who it was");
  }
  const mapped = MAPPINGS[type](members, distinctId);
  if ("fault" in mapped) return mapped;
  const { messageId = "", originalTimestamp = "", sentAt = "" } = texts;
  const timestamp = texts.timestamp || originalTimestamp;
  // RudderStack's clients stamp every message with the first; the second beside it is what their caller said. In messages
  // that Segment has handled it is the corrected one.
  const isFinal = originalTimestamp !== "" && Boolean(texts.timestamp);
  const groupId = unlessBlank(texts.groupId) || (members.context?.groupId ?? "");
  const { said } = mapped;
  for (const each of members.context?.said ?? []) said.push(each);
  if (userId !== "" && anonymousId !== "") said.push(saidText(DEVICE_ID, anonymousId));
  if (groupId !== "" && type !== "group") said.push(inGroup(groupId));
  if (messageId !== "") {
    said.push(
      members.messageId ? { key: MESSAGE_ID_KEY, value: members.messageId } : saidText(MESSAGE_ID_KEY, messageId),
    );
  }
  const properties = withAdded(mapped.own, said, inner, limits);
  return { event: mapped.event, distinctId, messageId, timestamp, sentAt, isFinal, properties };
}

function unlessBlank(text = ""): string {
  return text.trim() === "" ? "" : text;
}

interface Mapped {
  event: string;
  /** What the event's properties begin with. */
  own: CheckedProperties | undefined;
  said: Added[];
}

const MAPPINGS: Readonly<Record<MessageType, (members: Members, distinctId: string) => Mapped | RuleFault>> = {
  track({ texts, properties: own }) {
    const { event = "" } = texts;
    return event.trim() === ""
      ? fault("missing", "event", "must not be blank in a track message")
      : { event, own, said: [] };
  },
  page: ({ texts, properties: own }) => ({ event: "$pageview", own, said: texted(texts, NAME) }),
  screen: ({ texts, properties: own }) => ({ event: "$screen", own, said: texted(texts, SCREEN_NAME) }),
  identify({ texts, properties: own, traits, context }) {
    const { userId = "", anonymousId = "" } = texts;
    const set = traits ?? context?.traits;
    const said: Added[] = set ? [{ key: SET, value: set }] : [];
    // Traits alone do not identify a visitor who has no user id yet.
    if (userId.trim() === "") return { event: "$set", own, said };
    if (anonymousId !== userId && anonymousId !== "") said.push(saidText(ANON_DISTINCT_ID, anonymousId));
    return { event: "$identify", own, said };
  },
  group({ texts, properties: own, traits }) {
    const { groupId = "" } = texts;
    if (groupId.trim() === "") return fault("missing", "groupId", "must not be blank in a group message");
    const said = [saidText(GROUP_TYPE_KEY, GROUP_TYPE), saidText(GROUP_KEY, groupId), inGroup(groupId)];
    if (traits) said.push({ key: GROUP_SET, value: traits });
    return { event: "$groupidentify", own, said };
  },
  alias({ texts, properties: own }) {
    const { previousId = "" } = texts;
    if (previousId.trim() === "") return fault("missing", "previousId", "must not be blank in an alias message");
    return { event: "$create_alias", own, said: [saidText(ALIAS, previousId)] };
  },
};

/** Segment knows one kind of group. */
const GROUP_TYPE = "group";

function inGroup(groupId: string): Added {
  const bytes = Buffer.from(`{"${GROUP_TYPE}":${JSON.stringify(groupId)}}`);
  return { key: GROUPS, value: { bytes, from: 0, to: bytes.length } };
}

function texted(texts: Members["texts"], name: AddedKey): Added[] {
  const said: Added[] = [];
  if (texts.name !== undefined) said.push(saidText(name, texts.name));
  if (texts.category !== undefined) said.push(saidText(CATEGORY, texts.category));
  return said;
}
