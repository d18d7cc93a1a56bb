// Where the fields of an EventRecord are within its bytes. The consumer copies most of them into a row as they are, so
// making strings of them, as the generated decoder does, would be work done twice. decodeRecord (record.ts) is the plain
// path; record-scanner.test.ts holds the two together.
import { isUtf8 } from "node:buffer";
import { fromBinary } from "@bufbuild/protobuf";
import { RecordOriginSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { PoisonRecordError } from "./record.ts";
import { ABOUT_PERSON, readObject } from "./record-json.ts";

/** Field numbers of EventRecord (log.proto) whose values have a length. */
export const FIELD = {
  id: 1,
  event: 3,
  distinctId: 4,
  source: 5,
  propertiesJson: 9,
  originalTime: 11,
  apiKey: 12,
  ip: 13,
  userAgent: 14,
  sessionId: 15,
  windowId: 16,
  elementsChain: 17,
  currentUrl: 18,
  host: 19,
  anonDistinctId: 20,
  deviceId: 21,
  origin: 22,
} as const;

const ID_FROM_CALLER = 2;
const VALUE = 6;
const TIME_US = 7;
const RECEIVED_US = 8;
const CHECK_STORED = 10;
const TRUSTED = 23;
const LAST_FIELD = 23;
/** 2300-01-01T00:00:00Z, the first moment after a DateTime64's range. */
const TIME_US_END = 10_413_792_000_000_000;

/** A tag has 32 bits, whatever the bytes it is written in could hold. */
const TAG_MAX = 0xffff_ffff;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const WIRE_TYPES = wireTypes();

/** One record at a time: `scan` overwrites what the scan before found. */
export interface RecordScanner {
  /** Throws PoisonRecordError for bytes that cannot become a row. */
  scan(bytes: Uint8Array): void;
  bytes: Uint8Array;
  /** By field number: first byte, and the byte after the last; both 0 when absent. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  idFromCaller: boolean;
  checkStored: boolean;
  /** The request carried a secret key and no Origin. */
  trusted: boolean;
  /** Its properties may set properties of a person, or name groups. */
  aboutPerson: boolean;
  /** NaN when absent. */
  value: number;
  timeUs: number;
  receivedUs: number;
}

export function createRecordScanner(): RecordScanner {
  return new Scanner();
}

class Scanner implements RecordScanner {
  bytes: Uint8Array = new Uint8Array(0);
  readonly starts = new Int32Array(LAST_FIELD + 1);
  readonly ends = new Int32Array(LAST_FIELD + 1);
  idFromCaller = false;
  checkStored = false;
  trusted = false;
  aboutPerson = false;
  value = Number.NaN;
  timeUs = 0;
  receivedUs = 0;
  #at = 0;

  scan(bytes: Uint8Array): void {
    this.#reset(bytes);
    while (this.#at < bytes.length) {
      const tag = this.#varint();
      if (tag > TAG_MAX) throw malformed();
      this.#field(Math.floor(tag / 8), tag % 8);
    }
    this.#check();
  }

  #reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.starts.fill(0);
    this.ends.fill(0);
    this.idFromCaller = false;
    this.checkStored = false;
    this.trusted = false;
    this.value = Number.NaN;
    this.timeUs = 0;
    this.receivedUs = 0;
    this.#at = 0;
  }

  #field(field: number, wireType: number): void {
    const isKnown = field <= LAST_FIELD;
    if (field === 0 || (isKnown && WIRE_TYPES[field] !== wireType)) throw malformed();
    if (wireType === BYTES) {
      const length = this.#varint();
      const start = this.#at;
      this.#skip(length);
      if (isKnown) {
        this.starts[field] = start;
        this.ends[field] = this.#at;
      }
    } else if (wireType === VARINT) {
      const number = this.#varint();
      if (field === TIME_US) this.timeUs = number;
      else if (field === RECEIVED_US) this.receivedUs = number;
      else if (field === ID_FROM_CALLER) this.idFromCaller = number !== 0;
      else if (field === CHECK_STORED) this.checkStored = number !== 0;
      else if (field === TRUSTED) this.trusted = number !== 0;
    } else if (wireType === FIXED64) {
      const start = this.#at;
      this.#skip(8);
      if (field === VALUE) this.value = this.#double(start);
    } else if (wireType === FIXED32) {
      this.#skip(4);
    } else {
      throw malformed();
    }
  }

  #check(): void {
    const idBytes = (this.ends[FIELD.id] as number) - (this.starts[FIELD.id] as number);
    if (idBytes !== 16) throw new PoisonRecordError(`the id has ${idBytes} bytes, not 16`);
    // These two are not copied into the row, where texts are checked.
    if (!isUtf8(this.#view(FIELD.deviceId))) throw new PoisonRecordError("the device id is not UTF-8");
    if ((this.ends[FIELD.origin] as number) > 0) this.#checkOrigin();
    if (this.timeUs >= TIME_US_END || this.receivedUs >= TIME_US_END) {
      throw new PoisonRecordError("a time lies outside 1970 to 2299");
    }
    const [from, to] = [this.starts[FIELD.propertiesJson] as number, this.ends[FIELD.propertiesJson] as number];
    const kind = readObject(this.bytes, from, to);
    if (kind === 0) throw new PoisonRecordError("the properties are not one JSON object");
    this.aboutPerson = kind === ABOUT_PERSON;
  }

  #checkOrigin(): void {
    try {
      fromBinary(RecordOriginSchema, this.#view(FIELD.origin));
    } catch (error) {
      throw new PoisonRecordError("the origin is not a RecordOrigin message", { cause: error });
    }
  }

  #view(field: number): Uint8Array {
    return this.bytes.subarray(this.starts[field], this.ends[field]);
  }

  #skip(length: number): void {
    this.#at += length;
    if (this.#at > this.bytes.length) throw malformed();
  }

  /** Exact up to 2^53; larger ones, negative int64 among them, stay larger than any valid value. */
  #varint(): number {
    const { bytes } = this;
    let byte = bytes[this.#at++] ?? malformedByte();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let scale = 128; ; scale *= 128) {
      byte = bytes[this.#at++] ?? malformedByte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      if (scale > 2 ** 63) throw malformed();
    }
  }

  #double(start: number): number {
    const { buffer, byteOffset } = this.bytes;
    const value = new DataView(buffer, byteOffset + start, 8).getFloat64(0, true);
    if (!Number.isFinite(value)) throw new PoisonRecordError(`the value is ${value}`);
    return value;
  }
}

function wireTypes(): Int8Array {
  const types = new Int8Array(LAST_FIELD + 1).fill(-1);
  for (const field of Object.values(FIELD)) types[field] = BYTES;
  for (const field of [ID_FROM_CALLER, TIME_US, RECEIVED_US, CHECK_STORED, TRUSTED]) types[field] = VARINT;
  types[VALUE] = FIXED64;
  return types;
}

function malformed(): PoisonRecordError {
  return new PoisonRecordError("the value is not an EventRecord message");
}

function malformedByte(): never {
  throw malformed();
}
