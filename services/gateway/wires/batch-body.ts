// The body of POST /batch/ (product-analytics, sections 1.4, 1.5 and 1.7), read once: an envelope, and events that are each
// judged for themselves.
import { type JsonKind, textOf } from "#lib/events/json-cursor.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { articled } from "#lib/events/properties.ts";
import type { RuleFault } from "#lib/events/rule-fault.ts";
import { faultError, type JsonReading, readJsonBody } from "../json-body.ts";
import { NO_EVENTS, type Refused, refused, SEVERAL_KEYS } from "../refusals.ts";
import { type BodyEvent, CONTRACT_EVENT, EventReader, typeMessage } from "./event-body.ts";

export interface Envelope {
  /** As many as one request may have, invalid ones as what is wrong with them. */
  batch: readonly (BodyEvent | RuleFault)[];
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

/** What is wrong with the envelope; told after the whole body was read, in the contract's order. Made when it is thrown. */
interface EnvelopeFaults {
  broken?: () => Refused;
  batch?: () => Refused;
  apiKey?: () => Refused;
  historical?: () => Refused;
}

const SHAPE = 'send {"batch": [...]}';
const NO_BATCH = () => refused("invalid", { field: "batch", fault: `is required; ${SHAPE}` });
const EMPTY_BATCH = () => refused("invalid", { field: "batch", fault: NO_EVENTS });

/**
 * Throws Refused for bytes that are no JSON, for a fault of the envelope, and for that of the first event when all
 * have one. Of events beyond `maxEvents` nothing is kept.
 */
export function readEnvelope(json: JsonReading, body: Uint8Array, maxEvents: number): Envelope {
  if (body.length === 0) throw refused("body_invalid", { field: "body", fault: `is empty; ${SHAPE}` });
  return readJsonBody(json.cursor, body, behindMark(body), () => new Reading(json, maxEvents).envelope());
}

/** The contract takes a byte order mark, which JSON has not. */
export function behindMark(body: Uint8Array): number {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? 3 : 0;
}

class Reading {
  readonly #json: JsonReading;
  readonly #reader: EventReader;
  readonly #maxEvents: number;
  readonly #batch: (BodyEvent | RuleFault)[] = [];
  readonly #keys = new Set<string>();
  readonly #faults: EnvelopeFaults = { batch: NO_BATCH };
  #root = 0;
  #length = 0;
  #sentAt = "";
  #checkStored = false;

  constructor(json: JsonReading, maxEvents: number) {
    this.#json = json;
    this.#reader = new EventReader(json, CONTRACT_EVENT);
    this.#maxEvents = maxEvents;
  }

  envelope(): Envelope {
    const { cursor } = this.#json;
    this.#root = cursor.position();
    const kind = cursor.kind();
    if (kind !== "object") {
      cursor.skip();
      cursor.close();
      throw wrongShape("body", "an object with a batch array", kind);
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
      throw refused("invalid", { field: "api_key", fault: SEVERAL_KEYS });
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
      if (name === BATCH) this.#faults.batch = () => wrongShape("batch", "an array of events", kind);
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
      if (this.#length++ >= this.#maxEvents) {
        cursor.skip();
        continue;
      }
      this.#batch.push(this.#reader.read());
      this.#noteKey(this.#reader.key);
    }
    if (this.#length > 0) delete this.#faults.batch;
    else this.#faults.batch = EMPTY_BATCH;
  }

  #noteKey(key: string): void {
    const trimmed = key.trim();
    if (trimmed !== "") this.#keys.add(trimmed);
  }
}

/**
 * Throws Refused when every event is invalid and one breaks the contract: then its one answer for all stands. An
 * event over limits alone, of which the contract knows nothing, is counted as dropped.
 */
export function refuseWhenAllAre(events: readonly (object | RuleFault)[], indexOf: (at: number) => number): void {
  if (!events.every((each) => "fault" in each)) return;
  const at = events.findIndex((each) => each.fault === "invalid");
  const found = events[at];
  if (!found) return;
  const field = `batch[${indexOf(at)}]${found.field && `.${found.field}`}`;
  const error = refused("invalid", { field, fault: found.message });
  error.faults = events.filter((each) => "fault" in each);
  throw error;
}

/** Of what must be there. */
function wrongShape(field: string, wanted: string, kind: JsonKind): Refused {
  return refused("invalid", { field, fault: `must be ${wanted}, not ${articled(kind)}; ${SHAPE}` });
}

function wrongType(field: string, wanted: string, kind: JsonKind): Refused {
  return refused("invalid", { field, fault: typeMessage(wanted, kind) });
}
