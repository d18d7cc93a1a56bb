// EventRecord: encoding and decoding, the plain path.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type EventRecord, EventRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import type { JsonText } from "./json-cursor.ts";
import { isOneObject } from "./record-json.ts";
import { TIME_US_MAX } from "./time.ts";

/** An accepted event on its way to the log: EventRecord's fields as plain data. See log.proto for units. */
export interface LogEvent {
  id: Uint8Array;
  idFromCaller: boolean;
  event: string;
  distinctId: string;
  source: string;
  value: number | undefined;
  timeUs: number;
  receivedUs: number;
  /** Of one object, as it was sent. */
  propertiesJson: string | JsonText;
  checkStored: boolean;
  originalTime: string;
  apiKey: string;
  ip: string;
  userAgent: string;
  sessionId: string;
  windowId: string;
  elementsChain: string;
  currentUrl: string;
  host: string;
  anonDistinctId: string;
  deviceId: string;
  /** Absent: not trusted. */
  trusted?: boolean;
}

/** The bytes are no event record and never will be. */
export class PoisonRecordError extends Error {
  override readonly name = "PoisonRecordError";
}

/** Throws PoisonRecordError for bytes that cannot become a row. */
export function decodeRecord(value: Uint8Array): EventRecord {
  let record: EventRecord;
  try {
    record = fromBinary(EventRecordSchema, value);
  } catch (error) {
    throw new PoisonRecordError("the value is not an EventRecord message", { cause: error });
  }
  if (record.id.length !== 16) throw new PoisonRecordError(`the id has ${record.id.length} bytes, not 16`);
  if (record.value !== undefined && !Number.isFinite(record.value)) {
    throw new PoisonRecordError(`the value is ${record.value}`);
  }
  for (const us of [record.timeUs, record.receivedUs]) {
    if (us < 0n || us > TIME_US_MAX) throw new PoisonRecordError(`the time ${us} us lies outside 1970 to 2299`);
  }
  if (!isOneObject(record.propertiesJson, 0, record.propertiesJson.length))
    throw new PoisonRecordError("the properties are not one JSON object");
  return record;
}

/** The plain path: what `createRecordEncoder` must agree with, byte for byte. */
export function encodeRecordPlain(event: LogEvent): Uint8Array {
  return toBinary(
    EventRecordSchema,
    create(EventRecordSchema, {
      ...event,
      timeUs: BigInt(event.timeUs),
      receivedUs: BigInt(event.receivedUs),
      propertiesJson: bytesOf(event.propertiesJson),
      value: event.value as number,
      trusted: event.trusted ?? false,
    }),
  );
}

export function bytesOf(json: string | JsonText): Uint8Array {
  return typeof json === "string" ? Buffer.from(json) : json.bytes.subarray(json.from, json.to);
}

function jsonLength(json: string | JsonText): number {
  return typeof json === "string" ? json.length : json.to - json.from;
}

const SLAB_BYTES = 256 * 1024;
/** A string of at most this many UTF-16 units has at most 127 UTF-8 bytes, so that its length takes one byte. */
const SHORT_STRING = 42;
/** One of so many units has 128 to 16,383 bytes, so that its length takes two. */
const MEDIUM_STRING_MIN = 128;
const MEDIUM_STRING_MAX = 5461;

/**
 * Encoder of LogEvents as EventRecord bytes, about four times as fast as the generated one: it writes into a slab
 * shared by many records instead of assembling each from pieces. A returned view is never written again.
 */
export function createRecordEncoder(): (event: LogEvent) => Uint8Array {
  let slab = Buffer.allocUnsafe(SLAB_BYTES);
  let at = 0;
  let requestKey = "";
  let requestIp = "";
  let requestAgent = "";
  let requestBytes = Buffer.alloc(0);

  function varint(n: number): void {
    while (n > 0x7f) {
      slab[at++] = (n % 128) | 0x80;
      n = Math.floor(n / 128);
    }
    slab[at++] = n;
  }

  function tag(field: number, wireType: number): void {
    varint(field * 8 + wireType);
  }

  function text(field: number, value: string): void {
    const units = value.length;
    if (units === 0) return;
    tag(field, 2);
    if (units <= SHORT_STRING) {
      shortText(value);
    } else if (units >= MEDIUM_STRING_MIN && units <= MEDIUM_STRING_MAX) {
      const length = slab.write(value, at + 2);
      slab[at] = (length & 0x7f) | 0x80;
      slab[at + 1] = length >> 7;
      at += length + 2;
    } else {
      varint(Buffer.byteLength(value));
      at += slab.write(value, at);
    }
  }

  /** Unit by unit while it is ASCII: less than the call of `write` costs. */
  function shortText(value: string): void {
    const start = at + 1;
    let i = 0;
    for (; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit > 0x7f) break;
      slab[start + i] = unit;
    }
    const length = i === value.length ? i : slab.write(value, start);
    slab[at] = length;
    at = start + length;
  }

  /** Key, address and user agent are those of the request, the same in all its events: copied, once they are encoded. */
  function requestTexts({ apiKey, ip, userAgent }: LogEvent): void {
    if (apiKey === requestKey && ip === requestIp && userAgent === requestAgent) {
      slab.set(requestBytes, at);
      at += requestBytes.length;
      return;
    }
    const start = at;
    text(12, apiKey);
    text(13, ip);
    text(14, userAgent);
    requestBytes = Buffer.from(slab.subarray(start, at));
    [requestKey, requestIp, requestAgent] = [apiKey, ip, userAgent];
  }

  function json(field: number, value: string | JsonText): void {
    if (typeof value === "string") {
      text(field, value);
    } else {
      tag(field, 2);
      varint(value.to - value.from);
      at += value.bytes.copy(slab, at, value.from, value.to);
    }
  }

  function integer(field: number, value: number): void {
    if (value === 0) return;
    tag(field, 0);
    varint(value);
  }

  return (event) => {
    const bound = 200 + 3 * textLength(event);
    if (at + bound > slab.length) {
      slab = Buffer.allocUnsafe(Math.max(SLAB_BYTES, bound));
      at = 0;
    }
    const start = at;
    tag(1, 2);
    slab[at++] = 16;
    slab.set(event.id, at);
    at += 16;
    if (event.idFromCaller) integer(2, 1);
    text(3, event.event);
    text(4, event.distinctId);
    text(5, event.source);
    if (event.value !== undefined) {
      tag(6, 1);
      at = slab.writeDoubleLE(event.value, at);
    }
    integer(7, event.timeUs);
    integer(8, event.receivedUs);
    json(9, event.propertiesJson);
    if (event.checkStored) integer(10, 1);
    text(11, event.originalTime);
    requestTexts(event);
    text(15, event.sessionId);
    text(16, event.windowId);
    text(17, event.elementsChain);
    text(18, event.currentUrl);
    text(19, event.host);
    text(20, event.anonDistinctId);
    text(21, event.deviceId);
    if (event.trusted) integer(23, 1);
    return slab.subarray(start, at);
  };
}

function textLength(e: LogEvent): number {
  return (
    e.event.length +
    e.distinctId.length +
    e.source.length +
    jsonLength(e.propertiesJson) +
    e.originalTime.length +
    e.apiKey.length +
    e.ip.length +
    e.userAgent.length +
    e.sessionId.length +
    e.windowId.length +
    e.elementsChain.length +
    e.currentUrl.length +
    e.host.length +
    e.anonDistinctId.length +
    e.deviceId.length
  );
}
