// Rows of events_raw straight from record bytes: JSONCompactEachRow, one after another in one buffer. createEventRows
// (row.ts) is the plain path, by strings; row-writer.test.ts holds the two together, byte for byte.
import { isUtf8 } from "node:buffer";
import { personIdOf } from "./ids.ts";
import { PoisonRecordError } from "./record.ts";
import { FIELD, type RecordScanner } from "./record-scanner.ts";
import type { RowOrigin } from "./row.ts";

export interface RowWriter {
  /** Begins an empty batch; `bytes` is a guess of its size. */
  begin(bytes: number): void;
  /** Appends the row of the record that the scanner has just scanned. Throws PoisonRecordError and appends nothing. */
  add(record: RecordScanner, offset: number, appendTimeMs: number): void;
  /** The rows since `begin`. Not written to again. */
  take(): Uint8Array;
}

/** Writer of one partition. */
export function createRowWriter(origin: RowOrigin): RowWriter {
  return new Writer(origin);
}

const HEX = Buffer.from("0123456789abcdef");
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
/** All of a row but its texts and properties: ids, times, numbers, position, punctuation. */
const FIXED_BYTES_MAX = 400;
/** A control character becomes six characters. */
const ESCAPED_BYTES_MAX = 6;
const PERSONS_CACHED_MAX = 20_000;

class Writer implements RowWriter {
  readonly #tail: Buffer;
  readonly #eventTime = new TimeText();
  readonly #receivedTime = new TimeText();
  readonly #appendTime = new TimeText();
  /** Person ids by distinct id: a digest costs more than all else in a row, and the same people send many. */
  readonly #persons = new Map<string, string>();
  #out = Buffer.alloc(0);
  #at = 0;

  constructor({ epoch, topic, partition }: RowOrigin) {
    this.#tail = Buffer.from(`",${JSON.stringify(epoch)},${JSON.stringify(topic)},${partition},`);
  }

  begin(bytes: number): void {
    this.#out = Buffer.allocUnsafe(Math.max(bytes, 1024));
    this.#at = 0;
  }

  take(): Uint8Array {
    return this.#out.subarray(0, this.#at);
  }

  add(record: RecordScanner, offset: number, appendTimeMs: number): void {
    this.#reserve(FIXED_BYTES_MAX + this.#tail.length + record.bytes.length * ESCAPED_BYTES_MAX);
    const start = this.#at;
    try {
      this.#row(record, offset, appendTimeMs);
    } catch (error) {
      this.#at = start;
      throw error;
    }
  }

  #row(record: RecordScanner, offset: number, appendTimeMs: number): void {
    this.#ascii('["');
    this.#uuid(record);
    this.#ascii(record.idFromCaller ? '",1,' : '",0,');
    this.#text(record, FIELD.apiKey);
    this.#text(record, FIELD.event);
    this.#text(record, FIELD.distinctId);
    this.#ascii('"');
    this.#ascii(this.#personOf(record));
    this.#ascii('",');
    this.#text(record, FIELD.sessionId);
    this.#text(record, FIELD.windowId);
    this.#text(record, FIELD.elementsChain);
    this.#ascii('"');
    this.#time(this.#eventTime, record.timeUs);
    this.#ascii('","');
    this.#time(this.#receivedTime, record.receivedUs);
    this.#ascii('",');
    this.#text(record, FIELD.ip);
    this.#text(record, FIELD.userAgent);
    this.#text(record, FIELD.currentUrl);
    this.#text(record, FIELD.host);
    this.#text(record, FIELD.source);
    this.#ascii(Number.isNaN(record.value) ? "null," : `${record.value},`);
    this.#text(record, FIELD.originalTime);
    this.#text(record, FIELD.anonDistinctId);
    this.#ascii(`${offset},"`);
    this.#time(this.#appendTime, appendTimeMs * 1000);
    this.#out.set(this.#tail, this.#at);
    this.#at += this.#tail.length;
    const from = record.starts[FIELD.propertiesJson] as number;
    const to = record.ends[FIELD.propertiesJson] as number;
    this.#out.set(record.bytes.subarray(from, to), this.#at);
    this.#at += to - from;
    this.#ascii("]\n");
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#out.length) return;
    const larger = Buffer.allocUnsafe((this.#out.length + bytes) * 2);
    larger.set(this.#out.subarray(0, this.#at));
    this.#out = larger;
  }

  #ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.#out[this.#at++] = text.charCodeAt(i);
  }

  #uuid({ bytes, starts }: RecordScanner): void {
    const out = this.#out;
    const start = starts[FIELD.id] as number;
    let at = this.#at;
    for (let i = 0; i < 16; i++) {
      if (i === 4 || i === 6 || i === 8 || i === 10) out[at++] = 0x2d;
      const byte = bytes[start + i] as number;
      out[at++] = HEX[byte >> 4] as number;
      out[at++] = HEX[byte & 15] as number;
    }
    this.#at = at;
  }

  /** The field as a JSON string and a comma. */
  #text({ bytes, starts, ends }: RecordScanner, field: number): void {
    const out = this.#out;
    const from = starts[field] as number;
    const to = ends[field] as number;
    let at = this.#at;
    let seen = 0;
    out[at++] = QUOTE;
    for (let i = from; i < to; i++) {
      const byte = bytes[i] as number;
      seen |= byte;
      if (byte < 0x20 || byte === QUOTE || byte === BACKSLASH) at = escapeByte(out, at, byte);
      else out[at++] = byte;
    }
    if (seen > 0x7f && !isUtf8(bytes.subarray(from, to))) throw new PoisonRecordError(`field ${field} is not UTF-8`);
    out[at++] = QUOTE;
    out[at++] = COMMA;
    this.#at = at;
  }

  #time(text: TimeText, us: number): void {
    this.#at = text.write(this.#out, this.#at, us);
  }

  #personOf({ bytes, starts, ends }: RecordScanner): string {
    const from = starts[FIELD.distinctId] as number;
    const distinctId = Buffer.from(bytes.buffer, bytes.byteOffset + from, (ends[FIELD.distinctId] as number) - from);
    const text = distinctId.toString();
    const known = this.#persons.get(text);
    if (known !== undefined) return known;
    const person = personIdOf(text);
    if (this.#persons.size >= PERSONS_CACHED_MAX) this.#persons.clear();
    this.#persons.set(text, person);
    return person;
  }
}

function escapeByte(out: Buffer, start: number, byte: number): number {
  let at = start;
  out[at++] = BACKSLASH;
  if (byte >= 0x20) {
    out[at++] = byte;
    return at;
  }
  at += out.write("u00", at, "latin1");
  out[at++] = HEX[byte >> 4] as number;
  out[at++] = HEX[byte & 15] as number;
  return at;
}

/** Writes times as "2026-11-21 10:00:00.000000"; keeps the last second, which neighbours in a batch mostly share. */
class TimeText {
  #second = Number.NaN;
  readonly #prefix = Buffer.alloc(20);

  write(out: Buffer, start: number, us: number): number {
    const second = Math.floor(us / 1e6);
    if (second !== this.#second) {
      this.#second = second;
      const iso = new Date(second * 1000).toISOString();
      this.#prefix.write(`${iso.slice(0, 10)} ${iso.slice(11, 19)}.`, "latin1");
    }
    out.set(this.#prefix, start);
    // Below a million: 32-bit arithmetic takes a third of the time of that of doubles.
    let rest = (us - second * 1e6) | 0;
    for (let at = start + 25; at >= start + 20; at--) {
      const tenth = (rest / 10) | 0;
      out[at] = 0x30 + (rest - tenth * 10);
      rest = tenth;
    }
    return start + 26;
  }
}
