// Bodies of PostHog's clients: one event, an array of events, or an object with a batch of them.
import { type JsonCursor, textOf } from "#lib/events/json-cursor.ts";
import { JsonFault } from "#lib/events/json-fault.ts";
import { JsonNames } from "#lib/events/json-keys.ts";
import { articled, CheckedProperties } from "#lib/events/properties.ts";
import type { RuleFault } from "#lib/events/rule-fault.ts";
import { faultError, type JsonReading, readJsonBody } from "../json-body.ts";
import { NO_EVENTS, type Refused, refused, SEVERAL_KEYS } from "../refusals.ts";
import { behindMark, type Envelope } from "./batch-body.ts";
import { type BodyEvent, type EventReader, textIn } from "./event-body.ts";

export interface PostHogBody extends Envelope {
  /** The token among the first event's properties, where nothing else names a key. */
  lastResort: string;
  /** Of each of the batch, as it was sent; "" where there is none. */
  uuids: readonly string[];
}

const ENVELOPE = new JsonNames(["batch", "api_key", "token", "sent_at", "check_stored"]);
const [BATCH, API_KEY, TOKEN, SENT_AT, CHECK_STORED] = [0, 1, 2, 3, 4];
const JUST_TOKEN = new JsonNames(["token"]);

/** Throws Refused for bytes that are not JSON, and for an invalid envelope. */
export function readPostHogBody(
  json: JsonReading,
  body: Uint8Array,
  maxEvents: number,
  reader: EventReader,
): PostHogBody {
  if (body.length === 0) throw refused("body_invalid", { field: "body", fault: "is empty; send JSON" });
  const from = behindMark(body);
  const isEnvelope = hasBatch(json.inner, body, from);
  return readJsonBody(json.cursor, body, from, () => new Reading(json, maxEvents, reader, isEnvelope).body());
}

/** Looks ahead: clients write the batch first, or behind the key. */
function hasBatch(cursor: JsonCursor, body: Uint8Array, from: number): boolean {
  try {
    cursor.open(body, from);
    if (cursor.kind() !== "object") return false;
    cursor.enter();
    while (cursor.nextMember(ENVELOPE)) {
      if (cursor.name === BATCH) return true;
      cursor.skip();
    }
    return false;
  } catch (error) {
    // It is met again where the body is read, and told there.
    if (error instanceof JsonFault) return false;
    throw error;
  }
}

class Reading {
  readonly #json: JsonReading;
  readonly #maxEvents: number;
  readonly #reader: EventReader;
  readonly #isEnvelope: boolean;
  readonly #batch: (BodyEvent | RuleFault)[] = [];
  readonly #uuids: string[] = [];
  readonly #keys = new Set<string>();
  #fault: Refused | undefined;
  #length = 0;
  #sentAt = "";
  #checkStored = false;

  constructor(json: JsonReading, maxEvents: number, reader: EventReader, isEnvelope: boolean) {
    this.#json = json;
    this.#isEnvelope = isEnvelope;
    this.#maxEvents = maxEvents;
    this.#reader = reader;
  }

  body(): PostHogBody {
    const { cursor } = this.#json;
    const kind = cursor.kind();
    if (kind === "array") this.#events();
    else if (kind === "object") this.#object();
    else {
      cursor.skip();
      cursor.close();
      throw invalid("body", `must be an event, an array of events, or an object with a batch, not ${articled(kind)}`);
    }
    cursor.close();
    if (this.#fault) throw this.#fault;
    if (this.#length === 0) throw invalid("batch", NO_EVENTS);
    if (this.#keys.size > 1) throw invalid("api_key", SEVERAL_KEYS);
    const [key = ""] = this.#keys;
    const lastResort = key === "" ? this.#tokenOfFirst() : "";
    return {
      ...{ batch: this.#batch, length: this.#length, uuids: this.#uuids, key, lastResort },
      ...{ sentAt: this.#sentAt, checkStored: this.#checkStored },
    };
  }

  #object(): void {
    const { cursor } = this.#json;
    const root = cursor.position();
    if (!this.#isEnvelope) {
      this.#event();
      this.#sentAt = this.#reader.sentAt;
      return;
    }
    cursor.enter();
    while (cursor.nextMember(ENVELOPE)) this.#member();
    const broken = cursor.takeFault(root);
    if (broken) this.#fault ??= faultError(broken);
  }

  #member(): void {
    const { cursor } = this.#json;
    const kind = cursor.kind();
    const { name } = cursor;
    if (name === BATCH && kind === "array") {
      this.#events();
    } else if (kind === "string" && (name === API_KEY || name === TOKEN)) {
      this.#noteKey(cursor.text());
    } else if (kind === "string" && name === SENT_AT) {
      this.#sentAt = cursor.text();
    } else if (kind === "boolean" && name === CHECK_STORED) {
      this.#checkStored = textOf(cursor.slice()) === "true";
    } else {
      if (name === BATCH) this.#fault ??= invalid("batch", `must be an array of events, not ${articled(kind)}`);
      cursor.skip();
    }
  }

  #events(): void {
    const { cursor } = this.#json;
    cursor.enter();
    while (cursor.nextItem()) {
      if (this.#length < this.#maxEvents) this.#event();
      else {
        this.#length++;
        cursor.skip();
      }
    }
  }

  #event(): void {
    this.#length++;
    this.#batch.push(this.#reader.read());
    this.#uuids.push(this.#reader.uuid);
    this.#noteKey(this.#reader.key);
  }

  #noteKey(key: string): void {
    const trimmed = key.trim();
    if (trimmed !== "") this.#keys.add(trimmed);
  }

  #tokenOfFirst(): string {
    const first = this.#batch.find((each): each is BodyEvent => !("fault" in each));
    if (!(first?.properties instanceof CheckedProperties)) return "";
    return textIn(first.properties.json, JUST_TOKEN, "string", this.#json.inner).trim();
  }
}

function invalid(field: string, fault: string): Refused {
  return refused("invalid", { field, fault });
}
