// A PublishRequest in protobuf cut from its bytes: texts where they are short, properties_json left where it lies. What is not
// written as encoders write it, or has a Struct, is for the library to read (rpc.ts).
import { isUtf8 } from "node:buffer";
import { AsciiTexts } from "#lib/events/ascii-texts.ts";
import type { EventInput } from "#lib/events/validate.ts";
import { timeOf } from "./rpc.ts";

export interface PublishMessage {
  /** As many as may be. */
  events: EventInput[];
  /** How many there are. */
  count: number;
  checkStored: boolean;
  returnPositions: boolean;
}

const [VARINT, FIXED64, BYTES] = [0, 1, 2];
const tagOf = (field: number, type: number) => field * 8 + type;

const EVENTS = tagOf(1, BYTES);
const CHECK_STORED = tagOf(2, VARINT);
const RETURN_POSITIONS = tagOf(3, VARINT);
const [ID, EVENT, DISTINCT_ID, SOURCE] = [1, 2, 3, 4].map((field) => tagOf(field, BYTES));
const VALUE = tagOf(5, FIXED64);
const TIME = tagOf(6, BYTES);
const PROPERTIES_JSON = tagOf(8, BYTES);
const SECONDS = tagOf(1, VARINT);
const NANOS = tagOf(2, VARINT);

/** Of a varint of seven bytes, all that are read here: 49 bits. */
const VARINT_BYTES_MAX = 7;
const UNREADABLE = -1;

/** Undefined: the library is to read it, or to say what is wrong with it. */
export function cutPublishMessage(message: Buffer, maxEvents: number): PublishMessage | undefined {
  return new Cutter(message).message(maxEvents);
}

class Cutter {
  readonly #bytes: Buffer;
  #at = 0;
  readonly #texts: AsciiTexts;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#texts = new AsciiTexts(bytes, bytes.length);
  }

  message(maxEvents: number): PublishMessage | undefined {
    const found: PublishMessage = { events: [], count: 0, checkStored: false, returnPositions: false };
    while (this.#at < this.#bytes.length) {
      const tag = this.#tag();
      if (tag === CHECK_STORED || tag === RETURN_POSITIONS) {
        const value = this.#varint(this.#bytes.length);
        if (value === UNREADABLE) return undefined;
        if (tag === CHECK_STORED) found.checkStored = value !== 0;
        else found.returnPositions = value !== 0;
        continue;
      }
      const end = tag === EVENTS ? this.#end(this.#bytes.length) : UNREADABLE;
      if (end === UNREADABLE) return undefined;
      if (found.count++ < maxEvents) {
        const event = this.#event(end);
        if (!event) return undefined;
        found.events.push(event);
      }
      this.#at = end;
    }
    return found;
  }

  #event(end: number): EventInput | undefined {
    const input: EventInput = {
      ...{ id: "", event: "", distinctId: "", source: "" },
      ...{ value: undefined, time: undefined, properties: undefined },
    };
    while (this.#at < end) {
      const tag = this.#tag();
      if (tag === VALUE) {
        if (this.#at + 8 > end) return undefined;
        input.value = this.#bytes.readDoubleLE(this.#at);
        this.#at += 8;
        continue;
      }
      const to = this.#end(end);
      if (to === UNREADABLE || !this.#field(input, tag, to)) return undefined;
      this.#at = to;
    }
    return input;
  }

  /** Of what lies from here to `to`. False: it is not for us to read. */
  #field(input: EventInput, tag: number, to: number): boolean {
    if (tag === PROPERTIES_JSON) {
      // A view of its own, so that faults name the place within it.
      const bytes = this.#bytes.subarray(this.#at, to);
      input.properties = bytes.length === 0 ? "" : { bytes, from: 0, to: bytes.length };
      return isUtf8(bytes);
    }
    if (tag === TIME) {
      // A second one would be merged with the first.
      if (input.time) return false;
      input.time = this.#time(to);
      return input.time !== undefined;
    }
    const text = this.#text(to);
    if (text === undefined) return false;
    if (tag === ID) input.id = text;
    else if (tag === EVENT) input.event = text;
    else if (tag === DISTINCT_ID) input.distinctId = text;
    else if (tag === SOURCE) input.source = text;
    else return false;
    return true;
  }

  #time(to: number): EventInput["time"] {
    let [seconds, nanos] = [0, 0];
    while (this.#at < to) {
      const tag = this.#tag();
      const value = this.#varint(to);
      if (value === UNREADABLE) return undefined;
      if (tag === SECONDS) seconds = value;
      else if (tag === NANOS && value <= 999_999_999) nanos = value;
      else return undefined;
    }
    return timeOf(seconds, nanos);
  }

  #text(to: number): string | undefined {
    const bytes = this.#bytes;
    for (let at = this.#at; at < to; at++) {
      if ((bytes[at] as number) < 0x80) continue;
      return isUtf8(bytes.subarray(this.#at, to)) ? bytes.toString("utf8", this.#at, to) : undefined;
    }
    return this.#texts.cut(this.#at, to);
  }

  /** Those that are read here take one byte; written longer they are not read here. */
  #tag(): number {
    return this.#bytes[this.#at++] as number;
  }

  /** The end of what has its length here, UNREADABLE if that is behind `end`. */
  #end(end: number): number {
    const length = this.#varint(end);
    return length === UNREADABLE || this.#at + length > end ? UNREADABLE : this.#at + length;
  }

  #varint(end: number): number {
    let value = 0;
    for (let [i, unit] = [0, 1]; i < VARINT_BYTES_MAX && this.#at < end; i++, unit *= 128) {
      const byte = this.#bytes[this.#at++] as number;
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
    }
    return UNREADABLE;
  }
}
