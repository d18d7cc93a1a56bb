// What is shown live: one measured value, out of a record of the topic of points or of events.
import { isUtf8 } from "node:buffer";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { decodePoint } from "#lib/events/point-record.ts";
import { PoisonRecordError } from "#lib/events/record.ts";
import { createRecordScanner, FIELD } from "#lib/events/record-scanner.ts";

/** Whether a relay sent the point, or an event with a value did. As the column `origin` of points_all. */
export type LiveOrigin = "relay" | "event";

export interface LivePoint {
  metric: string;
  value: number;
  /** No value is empty. */
  tags: Readonly<Record<string, string>>;
  /** What moment the value is of, microseconds since 1970. */
  timeUs: number;
  origin: LiveOrigin;
  /** Where it is on the log. */
  partition: number;
  offset: number;
  /** About what it holds in memory. */
  bytes: number;
}

/** Undefined: the record is fine and has no value. Throws PoisonRecordError for bytes that never become a row. */
export type PointDecoder = (partition: number, record: StoredRecord) => LivePoint | undefined;

/** Of records of the topic of points. */
export const decodeRelayPoint: PointDecoder = (partition, { offset, value: bytes }) => {
  const { metric, value, tags, timeUs } = decodePoint(bytes);
  const from = { origin: "relay", partition, offset } as const;
  return { metric, value, tags, timeUs: Number(timeUs), ...from, bytes: sizeOf(bytes) };
};

/** Of records of the topic of events: named after the event, tagged with its source, as the view event_points has it. */
export function createEventPointDecoder(): PointDecoder {
  // Most events have no value, and are passed over without making anything of their other fields.
  const scanner = createRecordScanner();
  const text = (field: number) => textOf(scanner.bytes.subarray(scanner.starts[field], scanner.ends[field]));
  return (partition, { offset, value: bytes }) => {
    scanner.scan(bytes);
    if (Number.isNaN(scanner.value)) return undefined;
    const [metric, source] = [text(FIELD.event), text(FIELD.source)];
    const tags = source === "" ? {} : { source };
    const from = { origin: "event", partition, offset } as const;
    return { metric, value: scanner.value, tags, timeUs: scanner.timeUs, ...from, bytes: 2 * metric.length + 200 };
  };
}

function textOf(bytes: Uint8Array): string {
  if (!isUtf8(bytes)) throw new PoisonRecordError("a text is not UTF-8");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

/** Strings and objects made of so many encoded bytes. */
function sizeOf(bytes: Uint8Array): number {
  return 2 * bytes.length + 200;
}

/** Where the point is on the log: the same in every process. */
export function pointName({ origin, partition, offset }: LivePoint): string {
  return `${origin}-${partition}-${offset}`;
}
