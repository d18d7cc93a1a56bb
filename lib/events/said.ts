// What a caller said with an event, without what differs from one sending to the next: by it a retry is told from another
// event under the same id.
import { hash } from "node:crypto";
import { FIELD, type RecordScanner } from "./record-scanner.ts";
import { parseDateText } from "./time.ts";

export interface Said {
  event: string;
  distinctId: string;
  source: string;
  /** Null when absent. */
  value: number | null;
  timeUs: number;
  receivedUs: number;
  /** The time as it was sent, when it was moved or could not be read. */
  originalTime: string;
  /** SHA-256 of the text, hexadecimal. */
  propertiesHash: string;
}

/** Of the record that was scanned last. */
export function saidIn(record: RecordScanner): Said {
  const { bytes, starts, ends, value, timeUs, receivedUs } = record;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const text = (field: number) => buffer.toString("utf8", starts[field], ends[field]);
  return {
    event: text(FIELD.event),
    distinctId: text(FIELD.distinctId),
    source: text(FIELD.source),
    value: Number.isNaN(value) ? null : value,
    ...{ timeUs, receivedUs },
    originalTime: text(FIELD.originalTime),
    propertiesHash: hash("sha256", buffer.subarray(starts[FIELD.propertiesJson], ends[FIELD.propertiesJson])),
  };
}

export function isSameEvent(a: Said, b: Said): boolean {
  return (
    a.event === b.event &&
    a.distinctId === b.distinctId &&
    a.source === b.source &&
    a.value === b.value &&
    a.propertiesHash === b.propertiesHash &&
    isSameTime(a, b)
  );
}

/** A time that was not sent is the receive time, and one that was sent may have been corrected by another sent_at. */
function isSameTime(a: Said, b: Said): boolean {
  if (a.timeUs === b.timeUs) return true;
  const [sentA, sentB] = [sentTime(a), sentTime(b)];
  return sentA === sentB || (sentA !== undefined && sentB !== undefined && instantOf(sentA) === instantOf(sentB));
}

/** Undefined: none was sent. */
function sentTime({ timeUs, receivedUs, originalTime }: Said): string | number | undefined {
  if (originalTime !== "") return originalTime;
  return timeUs === receivedUs ? undefined : timeUs;
}

function instantOf(time: string | number): number | string {
  return typeof time === "number" ? time : (parseDateText(time) ?? time);
}
