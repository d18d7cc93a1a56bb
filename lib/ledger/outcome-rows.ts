// Rows of log_outcomes and dead_letters, JSONCompactEachRow, one line each. Rare rows: written for clarity.
import type { RowOrigin } from "#lib/events/row.ts";
import { createTimeFormatter } from "#lib/events/time.ts";

const POSITION_COLUMNS = ["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"];
export const OUTCOME_COLUMNS = [...POSITION_COLUMNS, "outcome", "detail"];
export const DEAD_LETTER_COLUMNS = [...POSITION_COLUMNS, "error_class", "error", "key_base64", "value_base64"];

const ERROR_CHARS_MAX = 2000;

/** Position of a record in its partition. */
interface Placed {
  offset: number;
  appendTimeMs: number;
}

/** Why the record at this position is no row. */
export function outcomeRow(origin: RowOrigin, placed: Placed, outcome: string, detail: string): Uint8Array {
  return line(origin, placed, outcome, detail);
}

/** The record byte for byte, with the reason. */
export function deadLetterRow(
  origin: RowOrigin,
  record: Placed & { key: Uint8Array; value: Uint8Array },
  errorClass: string,
  error: string,
): Uint8Array {
  const [key, value] = [record.key, record.value].map((bytes) => Buffer.from(bytes).toString("base64"));
  // Cutting may leave half a character, which ClickHouse would not read.
  return line(origin, record, errorClass, error.slice(0, ERROR_CHARS_MAX).toWellFormed(), key, value);
}

const formatTime = createTimeFormatter();

function line(origin: RowOrigin, { offset, appendTimeMs }: Placed, ...values: unknown[]): Uint8Array {
  const position = [origin.epoch, origin.topic, origin.partition, offset, formatTime(appendTimeMs * 1000)];
  return Buffer.from(`${JSON.stringify([...position, ...values])}\n`);
}
