// An event record as a row of `events_raw`, the plain path.
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid, personIdOf } from "./ids.ts";
import { createTimeFormatter } from "./time.ts";

/** Columns of events_raw in the order in which EventRows lists a row's values. */
export const EVENT_COLUMNS = [
  "uuid",
  "uuid_from_caller",
  "api_key",
  "event",
  "distinct_id",
  "person_id_at_ingest",
  "session_id",
  "window_id",
  "elements_chain",
  "timestamp",
  "inserted_at",
  "ip",
  "user_agent",
  "current_url",
  "host",
  "source",
  "value",
  "original_timestamp",
  "anon_distinct_id",
  "log_offset",
  "log_time",
  "log_epoch",
  "log_topic",
  "log_partition",
  "properties",
] as const;

/** Where a batch of rows comes from. */
export interface RowOrigin {
  epoch: string;
  topic: string;
  partition: number;
}

export interface EventRows {
  /** JSONCompactEachRow bytes of one record: a JSON array of EVENT_COLUMNS and a line break. A view, valid until `next`. */
  row(record: EventRecord, offset: number, appendTimeMs: number): Uint8Array;
}

/** Row mapper of one partition. */
export function createEventRows(origin: RowOrigin): EventRows {
  const tail = `${text(origin.epoch)},${text(origin.topic)},${origin.partition},`;
  const formatTime = createTimeFormatter();
  const formatReceived = createTimeFormatter();
  const formatAppended = createTimeFormatter();
  let buffer = Buffer.allocUnsafe(64 * 1024);
  return {
    row(r, offset, appendTimeMs) {
      const value = r.value === undefined ? "null" : String(r.value);
      const head =
        `["${formatUuid(r.id)}",${r.idFromCaller ? 1 : 0},${text(r.apiKey)},${text(r.event)},${text(r.distinctId)},` +
        `"${personIdOf(r.distinctId)}",${text(r.sessionId)},${text(r.windowId)},${text(r.elementsChain)},` +
        `"${formatTime(Number(r.timeUs))}","${formatReceived(Number(r.receivedUs))}",${text(r.ip)},${text(r.userAgent)},` +
        `${text(r.currentUrl)},${text(r.host)},${text(r.source)},${value},${text(r.originalTime)},` +
        `${text(r.anonDistinctId)},${offset},"${formatAppended(appendTimeMs * 1000)}",${tail}`;
      const bound = head.length * 3 + r.propertiesJson.length + 2;
      if (bound > buffer.length) buffer = Buffer.allocUnsafe(bound * 2);
      let at = buffer.write(head, 0);
      // The object's own text, not a string of it: ClickHouse stores it as it stands in a String column.
      buffer.set(r.propertiesJson, at);
      at += r.propertiesJson.length;
      buffer[at++] = 0x5d;
      buffer[at++] = 0x0a;
      return buffer.subarray(0, at);
    },
  };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters JSON must escape.
const NEEDS_ESCAPE = /["\\\u0000-\u001f]/;

function text(value: string): string {
  if (value === "") return '""';
  return NEEDS_ESCAPE.test(value) ? JSON.stringify(value) : `"${value}"`;
}
