// One event as callers write it → its bytes, or what is wrong with it.
import { createUuidV7 } from "../../../lib/events/ids.ts";
import { decodeFrame, EVENTS_TAG } from "./frames.ts";

/** An event as callers write it. */
export interface ClientEvent {
  /** Name, not blank, at most 200 UTF-8 bytes. */
  event: string;
  /** Who did it: user, device or host. */
  distinctId?: string | undefined;
  /** What JSON.stringify makes a JSON object of; at most 1,000 keys and 32 levels. */
  properties?: object | undefined;
  /** When it happened: a Date, milliseconds since 1970, or RFC 3339 text. Default: now. */
  time?: Date | number | string | undefined;
  /** UUID; two events with one id are one event. Default: a new UUIDv7, kept through all retries. */
  id?: string | undefined;
  /** Where it came from: "landing", "api", "mobile". */
  source?: string | undefined;
  /** A finite number measured by the event, in the unit its name implies. */
  value?: number | undefined;
}

export type FaultCode = "missing" | "invalid" | "too_large";

/** Why an event cannot be sent at all. */
export interface EventFault {
  code: FaultCode;
  /** Name of the field as in ClientEvent; "" for the event as a whole. */
  field: string;
  message: string;
}

export interface EncodedEvent {
  /** Valid until the next call: the memory is used again. */
  frame: Uint8Array;
}

/** Never throws, whatever the event holds. */
export type EventEncoder = (event: ClientEvent) => EncodedEvent | EventFault;

export function isFault(outcome: EncodedEvent | EventFault): outcome is EventFault {
  return "code" in outcome;
}

/** Larger events are refused by the gateway in any case. */
const EVENT_BYTES_MAX = 900_000;
/** Tag, length, an id of our own, and all fields but the texts. */
const OVERHEAD_BYTES = 128;
/** Bytes in front of the message for its tag and its length, which is known only afterwards. */
const HEAD_BYTES = 6;

/** Tags of Event in millrace/events/v1/events.proto: field number * 8 + wire type. */
const TAG = { id: 0x0a, event: 0x12, distinctId: 0x1a, source: 0x22, value: 0x29, time: 0x32, propertiesJson: 0x42 };
const TIMESTAMP_TAG = { seconds: 0x08, nanos: 0x10 };
const DIGITS = Buffer.from("0123456789abcdef");
const DASH = 0x2d;

export function createEventEncoder(nowMs: () => number = Date.now): EventEncoder {
  const newId = createUuidV7(nowMs);
  let scratch = Buffer.allocUnsafeSlow(16 * 1024);
  let at = 0;

  function varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      scratch[at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    scratch[at++] = rest;
  }

  /** A short text costs less byte by byte than a call into the runtime. False: it has other characters. */
  function ascii(value: string, from: number): boolean {
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code > 0x7f) return false;
      scratch[from + i] = code;
    }
    return true;
  }

  function text(tag: number, value: string): void {
    if (value === "") return;
    scratch[at++] = tag;
    // Up to here the length takes one byte whatever the characters are.
    if (value.length <= 42) {
      const written = ascii(value, at + 1) ? value.length : scratch.write(value, at + 1);
      scratch[at] = written;
      at += 1 + written;
      return;
    }
    // Most texts have as many bytes as characters: they are written where they then belong, and not counted first.
    const from = at + varintBytes(value.length);
    const written = scratch.write(value, from);
    const to = at + varintBytes(written);
    if (to !== from) scratch.copyWithin(to, from, from + written);
    varint(written);
    at += written;
  }

  /** An id of our own goes from its bytes into the frame: as a string it would cost more than all other fields. */
  function ownId(bytes: Uint8Array): void {
    scratch[at++] = TAG.id;
    scratch[at++] = 36;
    for (let i = 0; i < 16; i++) {
      if (i === 4 || i === 6 || i === 8 || i === 10) scratch[at++] = DASH;
      const byte = bytes[i] as number;
      scratch[at++] = DIGITS[byte >>> 4] as number;
      scratch[at++] = DIGITS[byte & 0xf] as number;
    }
  }

  function timestamp(ms: number): void {
    const seconds = Math.floor(ms / 1000);
    const nanos = Math.min(999_999, Math.round((ms - seconds * 1000) * 1000)) * 1000;
    scratch[at++] = TAG.time;
    const lengthAt = at++;
    scratch[at++] = TIMESTAMP_TAG.seconds;
    if (seconds >= 0) varint(seconds);
    else negativeVarint(seconds);
    if (nanos > 0) {
      scratch[at++] = TIMESTAMP_TAG.nanos;
      varint(nanos);
    }
    scratch[lengthAt] = at - lengthAt - 1;
  }

  /** As two's complement of 64 bits, which is always ten bytes. */
  function negativeVarint(value: number): void {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < 9; i++) {
      scratch[at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    scratch[at++] = Number(rest);
  }

  function write(event: ClientEvent, id: string | undefined, ms: number, json: string): Uint8Array {
    const { event: name, distinctId = "", source = "", value } = event;
    const bound =
      3 * ((id ?? "").length + name.length + distinctId.length + source.length + json.length) + OVERHEAD_BYTES;
    if (bound > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * bound);
    at = HEAD_BYTES;
    if (id === undefined) ownId(newId());
    else text(TAG.id, id);
    text(TAG.event, name);
    text(TAG.distinctId, distinctId);
    text(TAG.source, source);
    if (value !== undefined) {
      scratch[at++] = TAG.value;
      at = scratch.writeDoubleLE(value, at);
    }
    timestamp(ms);
    text(TAG.propertiesJson, json);
    const end = at;
    const length = end - HEAD_BYTES;
    const start = HEAD_BYTES - 1 - varintBytes(length);
    at = start;
    scratch[at++] = EVENTS_TAG;
    varint(length);
    return scratch.subarray(start, end);
  }

  function encode(event: ClientEvent): EncodedEvent | EventFault {
    const checked = check(event, nowMs);
    if (typeof checked !== "number") return checked;
    const json = event.properties == null ? "" : JSON.stringify(event.properties);
    if (json === undefined || (json !== "" && !json.startsWith("{"))) {
      return fault("invalid", "properties", "must become a JSON object");
    }
    // Before anything is written: a text has at least as many bytes as characters.
    if (json.length > EVENT_BYTES_MAX) return tooLarge(json.length);
    const frame = write(event, event.id, checked, json);
    return frame.length > EVENT_BYTES_MAX ? tooLarge(frame.length) : { frame };
  }

  return (event) => {
    try {
      return encode(event);
    } catch (error) {
      // A cycle, a BigInt, a getter or a toJSON that throws, a proxy.
      return fault("invalid", "properties", `cannot be written as JSON: ${messageOf(error)}`);
    }
  };
}

/** Milliseconds of the event's time when nothing is wrong. */
function check(event: ClientEvent, nowMs: () => number): number | EventFault {
  if (typeof event !== "object" || event === null) return fault("invalid", "", "is no event");
  const { event: name, value } = event;
  if (typeof name !== "string") return fault("missing", "event", `must be text, is ${kindOf(name)}`);
  if (name.trim() === "") return fault("missing", "event", "is blank");
  for (const field of ["distinctId", "id", "source"] as const) {
    const given = event[field];
    if (given !== undefined && typeof given !== "string") {
      return fault("invalid", field, `must be text, is ${kindOf(given)}`);
    }
  }
  if (event.id === "") return fault("invalid", "id", "is empty; leave it out for a new one");
  if (value !== undefined && !Number.isFinite(value)) return fault("invalid", "value", "must be a finite number");
  const { properties } = event;
  if (properties != null && (typeof properties !== "object" || Array.isArray(properties))) {
    return fault("invalid", "properties", `must be an object, is ${kindOf(properties)}`);
  }
  if (event.time === undefined) return nowMs();
  const ms = millisecondsOf(event.time);
  // What a Date can hold.
  if (!(Math.abs(ms) <= 8.64e15)) return fault("invalid", "time", "is no time");
  return ms;
}

function millisecondsOf(time: Date | number | string): number {
  if (typeof time === "number") return time;
  return time instanceof Date ? time.getTime() : typeof time === "string" ? Date.parse(time) : Number.NaN;
}

/** What an encoded event said, for callers that hear of its end. */
export function readEvent(frame: Uint8Array): ClientEvent & { id: string } {
  const { id, event, distinctId, source, value, time, propertiesKind } = decodeFrame(frame);
  return {
    id,
    event,
    ...(distinctId !== "" && { distinctId }),
    ...(source !== "" && { source }),
    ...(value !== undefined && { value }),
    ...(time && { time: new Date(Number(time.seconds) * 1000 + time.nanos / 1e6) }),
    ...(propertiesKind.case === "propertiesJson" && { properties: JSON.parse(propertiesKind.value) as object }),
  };
}

function tooLarge(bytes: number): EventFault {
  return fault("too_large", "", `takes ${bytes} bytes; ${EVENT_BYTES_MAX} are allowed`);
}

function fault(code: FaultCode, field: string, message: string): EventFault {
  return { code, field, message };
}

function varintBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "an array" : typeof value;
}

/** Anything can be thrown, also what cannot be made text. */
function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    return "an error without a text";
  }
}
