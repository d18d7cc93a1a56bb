// The body of POST /batch/ (product-analytics, sections 1.4, 1.5 and 1.7), read once: an envelope, and events that are each
// judged for themselves.
import { type JsonKind, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { type JsonMember, withMembers } from "#lib/events/json-members.ts";
import { articled, type CheckedProperties, type PropertiesInput, within } from "#lib/events/properties.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { eventBounds, faultError, type JsonReading, readJsonBody } from "../json-body.ts";
import { type Refused, refused } from "../refusals.ts";

export interface BatchEvent {
  event: string;
  distinctId: string;
  /** "" when there is none; the receive time is meant then. */
  timestamp: string;
  uuid: string;
  properties: PropertiesInput;
  ignoresSentAt: boolean;
}

export interface Envelope {
  /** As many as one request may have, those at fault by what is wrong with them. */
  batch: readonly (BatchEvent | RuleFault)[];
  /** How many there are. */
  length: number;
  /** The one key of envelope and events, trimmed; "" when none has any. */
  key: string;
  /** "" when there is none. */
  sentAt: string;
  /** As in PublishRequest; of another type than true or false it is ignored. */
  checkStored: boolean;
}

const ENVELOPE = new JsonNames(["batch", "api_key", "sent_at", "check_stored", "historical_migration"]);
const [BATCH, API_KEY, SENT_AT, CHECK_STORED, HISTORICAL] = [0, 1, 2, 3, 4];

const TEXTS = ["event", "distinct_id", "api_key", "timestamp"];
/** What clients say about people, beside the properties or among them: it belongs there. */
const ABOUT_PEOPLE = ["$set", "$set_once", "$unset", "$anon_distinct_id", "alias", "$groups"];
const EVENT = new JsonNames([...TEXTS, "properties", "uuid", ...ABOUT_PEOPLE]);
const PROPERTIES = TEXTS.length;
const UUID = PROPERTIES + 1;
const MERGED = new Set(["$set", "$set_once"]);

/** What is wrong with the envelope; told after the whole body was read, in the contract's order. Made when it is thrown. */
interface EnvelopeFaults {
  broken?: () => Refused;
  batch?: () => Refused;
  apiKey?: () => Refused;
  historical?: () => Refused;
}

const NO_BATCH = () => wrongType("batch", "an array of events", "absent");
const EMPTY_BATCH = () => refused("invalid", { field: "batch", fault: "must have at least one event" });

/**
 * Throws Refused for bytes that are no JSON, for a fault of the envelope, and for that of the first event when all
 * have one. Of events beyond `maxEvents` nothing is kept.
 */
export function readEnvelope(json: JsonReading, body: Uint8Array, maxEvents: number): Envelope {
  if (body.length === 0) throw refused("body_invalid", { field: "body", fault: 'is empty; send {"batch": [...]}' });
  return readJsonBody(json.cursor, body, behindMark(body), () => new Reading(json, maxEvents).envelope());
}

/** The contract takes a byte order mark, which JSON has not. */
function behindMark(body: Uint8Array): number {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? 3 : 0;
}

class Reading {
  readonly #json: JsonReading;
  readonly #maxEvents: number;
  readonly #batch: (BatchEvent | RuleFault)[] = [];
  readonly #keys = new Set<string>();
  readonly #faults: EnvelopeFaults = { batch: NO_BATCH };
  #root = 0;
  #length = 0;
  #sentAt = "";
  #checkStored = false;

  constructor(json: JsonReading, maxEvents: number) {
    this.#json = json;
    this.#maxEvents = maxEvents;
  }

  envelope(): Envelope {
    const { cursor } = this.#json;
    this.#root = cursor.position();
    const kind = cursor.kind();
    if (kind !== "object") {
      cursor.skip();
      cursor.close();
      throw wrongType("body", "an object with a batch array", kind);
    }
    cursor.enter();
    while (cursor.nextMember(ENVELOPE)) this.#member(cursor.name, cursor.kind());
    this.#takeBroken();
    cursor.close();
    return this.#judged();
  }

  #judged(): Envelope {
    const { broken, batch, apiKey, historical } = this.#faults;
    const wrong = broken ?? batch ?? apiKey ?? historical;
    if (wrong) throw wrong();
    refuseWhenAllAre(this.#batch, (index) => index);
    if (this.#keys.size > 1) {
      throw refused("invalid", {
        field: "api_key",
        fault: "has different values in one request; send one request a key",
      });
    }
    const [key = ""] = this.#keys;
    return { batch: this.#batch, length: this.#length, key, sentAt: this.#sentAt, checkStored: this.#checkStored };
  }

  #member(name: number, kind: JsonKind): void {
    const { cursor } = this.#json;
    if (name === BATCH && kind === "array") {
      this.#events();
    } else if (name === API_KEY && kind === "string") {
      this.#noteKey(cursor.text());
    } else if (name === SENT_AT && kind === "string") {
      this.#sentAt = cursor.text();
    } else if (name === CHECK_STORED && kind === "boolean") {
      this.#checkStored = textOf(cursor.slice()) === "true";
    } else {
      if (name === BATCH) this.#faults.batch = () => wrongType("batch", "an array of events", kind);
      if (name === API_KEY) this.#faults.apiKey = () => wrongType("api_key", "a string", kind);
      if (name === HISTORICAL && kind !== "boolean") {
        this.#faults.historical = () => wrongType("historical_migration", "true or false", kind);
      }
      cursor.skip();
    }
  }

  #takeBroken(): void {
    const broken = this.#json.cursor.takeFault(this.#root);
    if (broken) this.#faults.broken ??= () => faultError(broken);
  }

  #events(): void {
    const { cursor } = this.#json;
    // What was wrong before the events is not a fault of theirs.
    this.#takeBroken();
    cursor.enter();
    while (cursor.nextItem()) {
      if (this.#length++ < this.#maxEvents) this.#batch.push(this.#event());
      else cursor.skip();
    }
    if (this.#length > 0) delete this.#faults.batch;
    else this.#faults.batch = EMPTY_BATCH;
  }

  #event(): BatchEvent | RuleFault {
    const { cursor, limits } = this.#json;
    const kind = cursor.kind();
    if (kind !== "object") {
      cursor.skip();
      return wrongField("", "an object", kind);
    }
    const root = cursor.position();
    const read: EventMembers = { texts: [], properties: undefined, uuid: "", people: [], fault: undefined };
    cursor.beginBounds({ ...eventBounds(limits), passNaN: true });
    cursor.enter();
    while (cursor.nextMember(EVENT)) this.#eventMember(read, cursor.name, cursor.kind());
    cursor.endBounds();
    const broken = cursor.takeFault(root);
    const key = read.texts[2];
    if (key !== undefined) this.#noteKey(key);
    return read.fault ?? broken ?? this.#joined(read);
  }

  #eventMember(read: EventMembers, name: number, kind: JsonKind): void {
    const { cursor, properties, limits } = this.#json;
    if (name < 0) {
      cursor.skip();
    } else if (name < PROPERTIES) {
      if (kind === "string") read.texts[name] = cursor.text();
      else this.#refuse(read, "a string", kind);
    } else if (name === PROPERTIES) {
      if (kind === "object") read.properties = properties.atCursor(cursor, limits);
      else this.#refuse(read, "an object", kind);
    } else if (name === UUID) {
      if (kind === "string") read.uuid = cursor.text();
      else cursor.skip();
    } else if (kind === "null") {
      cursor.skip();
    } else {
      read.people.push({ key: cursor.keyText(), value: cursor.slice() });
    }
  }

  #refuse(read: EventMembers, wanted: string, kind: JsonKind): void {
    read.fault ??= wrongField(EVENT.at(this.#json.cursor.name), wanted, kind);
    this.#json.cursor.skip();
  }

  /** What is said about people is put where the rules of all dialects look for it. */
  #joined({ texts, uuid, properties, people }: EventMembers): BatchEvent | RuleFault {
    const [event = "", distinctId = "", , timestamp = ""] = texts;
    const { inner, limits, properties: reader } = this.#json;
    let checked: CheckedProperties | RuleFault | undefined = properties;
    if (people.length > 0) {
      checked = reader.check(withMembers(properties?.json, people, inner, MERGED), "properties", limits);
      if ("fault" in checked) return within("", checked);
    }
    const ids = [distinctId, checked?.lifted.distinctId ?? ""];
    return {
      event,
      distinctId: ids.find((id) => id.trim() !== "") ?? "",
      timestamp,
      uuid,
      properties: checked,
      ignoresSentAt: checked?.lifted.ignoresSentAt ?? false,
    };
  }

  #noteKey(key: string): void {
    const trimmed = key.trim();
    if (trimmed !== "") this.#keys.add(trimmed);
  }
}

interface EventMembers {
  /** By index in EVENT. */
  texts: (string | undefined)[];
  properties: CheckedProperties | undefined;
  uuid: string;
  people: JsonMember[];
  fault: RuleFault | undefined;
}

/**
 * Throws Refused when every event is at fault and one breaks the contract: then its one answer for all stands. An
 * event over limits alone, of which the contract knows nothing, is counted as dropped.
 */
export function refuseWhenAllAre(events: readonly (object | RuleFault)[], indexOf: (at: number) => number): void {
  if (!events.every((each) => "fault" in each)) return;
  const at = events.findIndex((each) => each.fault === "invalid");
  const found = events[at];
  if (!found) return;
  const field = `batch[${indexOf(at)}]${found.field && `.${found.field}`}`;
  throw refused("invalid", { field, fault: found.message });
}

function wrongField(field: string, wanted: string, kind: JsonKind): RuleFault {
  return fault("invalid", field, typeMessage(wanted, kind));
}

function wrongType(field: string, wanted: string, kind: JsonKind | "absent"): Refused {
  return refused("invalid", { field, fault: typeMessage(wanted, kind) });
}

function typeMessage(wanted: string, kind: JsonKind | "absent"): string {
  const given = kind === "absent" ? kind : articled(kind);
  return `must be ${wanted}, not ${given}; leave it out if there is none`;
}
