// One event of a PostHog-shaped body, read where the cursor stands: `/batch/` as its contract has it, the other wires as
// PostHog's clients send it.
import { type Added, type AddedKey, addedKey, withAdded } from "#lib/events/added-properties.ts";
import { type JsonCursor, type JsonKind, type JsonText, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { type JsonMember, MERGED, withMembers } from "#lib/events/json-members.ts";
import { articled, type CheckedProperties, type PropertiesInput, within } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { eventBounds, type JsonReading } from "../json-body.ts";

export interface BodyEvent {
  event: string;
  distinctId: string;
  /** "" when there is none; the receive time is meant then. */
  timestamp: string;
  uuid: string;
  properties: PropertiesInput;
  ignoresSentAt: boolean;
}

const TEXTS = ["event", "distinct_id", "api_key", "timestamp"];
const [EVENT, DISTINCT_ID, API_KEY, TIMESTAMP] = [0, 1, 2, 3];
/** What clients say about people and groups, beside the properties or among them: it belongs there. */
const ABOUT_PEOPLE = ["$set", "$set_once", "$unset", "$anon_distinct_id", "alias", "$groups"];
const CONTRACT = [...TEXTS, "properties", "uuid", ...ABOUT_PEOPLE];
const PROPERTIES = TEXTS.length;
const UUID = PROPERTIES + 1;
/** Known to PostHog alone, and of no importance where they are no texts. */
const POSTHOG = ["token", "sent_at", "$distinct_id"];
const [TOKEN, SENT_AT, OTHER_DISTINCT_ID] = POSTHOG.map((_, at) => CONTRACT.length + at);

/** Among the properties: as text they are lifted with the others. */
const DISTINCT_IDS = new JsonNames(["distinct_id", "$distinct_id"]);

/** Of Capture V1: what its SDKs take out of the properties, and its names there. */
const V1 = ["session_id", "window_id"];
const V1_KEYS: readonly AddedKey[] = [addedKey("$session_id"), addedKey("$window_id")];
const OPTIONS = new JsonNames([
  "cookieless_mode",
  "disable_skew_correction",
  "process_person_profile",
  "product_tour_id",
]);
const IGNORE_SENT_AT = addedKey("$ignore_sent_at");
const OPTION_KEYS: readonly AddedKey[] = [
  ...[addedKey("$cookieless_mode"), IGNORE_SENT_AT],
  ...[addedKey("$process_person_profile"), addedKey("$product_tour_id")],
];
const V1_FROM = CONTRACT.length + POSTHOG.length;

export interface EventForm {
  readonly names: JsonNames;
  /** null is as if the member were not there, and a number is a distinct id, wherever that may stand. */
  readonly isLenient: boolean;
  /** Properties are made of other members of most events. */
  readonly adds?: boolean;
}

export const CONTRACT_EVENT: EventForm = { names: new JsonNames(CONTRACT), isLenient: false };
export const POSTHOG_EVENT: EventForm = { names: new JsonNames([...CONTRACT, ...POSTHOG]), isLenient: true };
export const V1_EVENT: EventForm = {
  names: new JsonNames([...CONTRACT, ...POSTHOG, ...V1, "options"]),
  isLenient: true,
  adds: true,
};

interface EventMembers {
  /** By index in the form's names. */
  texts: (string | undefined)[];
  properties: CheckedProperties | undefined;
  uuid: string;
  people: JsonMember[];
  added: Added[];
  fault: RuleFault | undefined;
}

export class EventReader {
  /** What the event that was read last has beside what it is: "" where it has none. */
  key = "";
  sentAt = "";
  uuid = "";
  readonly #json: JsonReading;
  readonly #form: EventForm;
  readonly #added: readonly Added[];

  /** `added` are properties of every event that has none of the name. */
  constructor(json: JsonReading, form: EventForm, added: readonly Added[] = []) {
    this.#json = json;
    this.#form = form;
    this.#added = added;
  }

  /** Passes the event. */
  read(): BodyEvent | RuleFault {
    const { cursor, limits } = this.#json;
    this.key = this.sentAt = this.uuid = "";
    const kind = cursor.kind();
    if (kind !== "object") {
      cursor.skip();
      return wrongField("", "an object", kind);
    }
    const root = cursor.position();
    const read: EventMembers = { texts: [], properties: undefined, uuid: "", people: [], added: [], fault: undefined };
    cursor.beginBounds({ ...eventBounds(limits), passNaN: true });
    cursor.enter();
    while (cursor.nextMember(this.#form.names)) this.#member(read, cursor.name, cursor.kind());
    cursor.endBounds();
    const broken = cursor.takeFault(root);
    this.key = read.texts[API_KEY] || (read.texts[TOKEN as number] ?? "");
    this.uuid = read.uuid;
    this.sentAt = read.texts[SENT_AT as number] ?? "";
    const found = read.fault ?? broken ?? this.#joined(read);
    return "fault" in found ? { ...found, of: { id: read.uuid, event: read.texts[EVENT] ?? "" } } : found;
  }

  #member(read: EventMembers, name: number, kind: JsonKind): void {
    const { cursor, properties, limits } = this.#json;
    const { isLenient } = this.#form;
    if (name < 0 || (isLenient && kind === "null")) {
      cursor.skip();
    } else if (name < PROPERTIES) {
      if (kind === "string") read.texts[name] = cursor.text();
      else if (isLenient && name === DISTINCT_ID && kind === "number") read.texts[name] = textOf(cursor.slice());
      else this.#refuse(read, "a string", kind);
    } else if (name === PROPERTIES) {
      if (kind === "object") read.properties = properties.atCursor(cursor, limits, this.#form.adds);
      else this.#refuse(read, "an object", kind);
    } else if (name === UUID) {
      if (kind === "string") read.uuid = cursor.text();
      else cursor.skip();
    } else if (name >= V1_FROM) {
      this.#lifted(read, name, kind);
    } else if (name >= CONTRACT.length) {
      if (kind === "string") read.texts[name] = cursor.text();
      else if (kind === "number" && name === OTHER_DISTINCT_ID) read.texts[name] = textOf(cursor.slice());
      else cursor.skip();
    } else if (kind === "null") {
      cursor.skip();
    } else {
      read.people.push({ key: cursor.keyText(), value: cursor.slice() });
    }
  }

  /** What is no text and no switch is ignored: nothing in it could be bounded. */
  #lifted(read: EventMembers, name: number, kind: JsonKind): void {
    const { cursor } = this.#json;
    const key = V1_KEYS[name - V1_FROM];
    if (key !== undefined) {
      if (kind === "string") read.added.push({ key, text: cursor.text(), value: cursor.textJson() });
      else cursor.skip();
    } else if (kind === "object") {
      cursor.enter();
      while (cursor.nextMember(OPTIONS)) {
        const option = OPTION_KEYS[cursor.name];
        const isPlain = cursor.kind() !== "object" && cursor.kind() !== "array";
        if (option !== undefined && isPlain) read.added.push({ key: option, value: cursor.slice() });
        else cursor.skip();
      }
    } else {
      this.#refuse(read, "an object", kind);
    }
  }

  #refuse(read: EventMembers, wanted: string, kind: JsonKind): void {
    read.fault ??= wrongField(this.#form.names.at(this.#json.cursor.name), wanted, kind);
    this.#json.cursor.skip();
  }

  /** What is said about people is put where the rules of all dialects look for it. */
  #joined({ texts, uuid, properties, people, added }: EventMembers): BodyEvent | RuleFault {
    const { inner, limits, properties: reader } = this.#json;
    let checked: CheckedProperties | RuleFault | undefined = properties;
    if (people.length > 0) {
      checked = reader.check(withMembers(properties?.json, people, inner, MERGED), "properties", limits);
      if ("fault" in checked) return within("", checked);
    }
    const ignoresSentAt = added.some(saysToIgnoreSentAt);
    for (const each of this.#added) added.push(each);
    if (added.length > 0) {
      checked = reader.check(withAdded(checked, added, inner, limits), "properties", limits);
      if ("fault" in checked) return within("", checked);
    }
    return {
      event: texts[EVENT] ?? "",
      distinctId:
        unlessBlank(texts[DISTINCT_ID]) ||
        unlessBlank(texts[OTHER_DISTINCT_ID as number]) ||
        unlessBlank(checked?.lifted.distinctId) ||
        (this.#form.isLenient && checked ? textIn(checked.json, DISTINCT_IDS, "number", inner) : ""),
      timestamp: texts[TIMESTAMP] ?? "",
      uuid,
      properties: checked,
      ignoresSentAt: ignoresSentAt || checked?.lifted.ignoresSentAt === true,
    };
  }
}

/** What the first of the object's members by these names says that is of the kind; "" when there is none. */
export function textIn(object: JsonText, names: JsonNames, kind: "string" | "number", cursor: JsonCursor): string {
  cursor.open(object.bytes, object.from, object.to);
  cursor.enter();
  while (cursor.nextMember(names)) {
    if (cursor.name >= 0 && cursor.kind() === kind) return kind === "string" ? cursor.text() : textOf(cursor.slice());
    cursor.skip();
  }
  return "";
}

function unlessBlank(text = ""): string {
  return text.trim() === "" ? "" : text;
}

function saysToIgnoreSentAt({ key, value }: Added): boolean {
  return key === IGNORE_SENT_AT && textOf(value) === "true";
}

function wrongField(field: string, wanted: string, kind: JsonKind): RuleFault {
  return fault("invalid", field, typeMessage(wanted, kind));
}

export function typeMessage(wanted: string, kind: JsonKind): string {
  return `must be ${wanted}, not ${articled(kind)}; leave it out if there is none`;
}
