// JSONCompactEachRow bytes of log_outcomes and dead_letters. Rare rows: written for clarity.
import type { RowOrigin } from "#lib/events/row.ts";
import { createTimeFormatter } from "#lib/events/time.ts";
import type { DeadLetter, Outcome } from "./prepare.ts";

const POSITION_COLUMNS = ["log_epoch", "log_topic", "log_partition", "log_offset", "log_time"];
export const OUTCOME_COLUMNS = [...POSITION_COLUMNS, "outcome", "detail"];
export const DEAD_LETTER_COLUMNS = [...POSITION_COLUMNS, "error_class", "error", "key_base64", "value_base64"];

const ERROR_CHARS_MAX = 2000;

export function outcomeRows(origin: RowOrigin, outcomes: readonly Outcome[]): Uint8Array {
  return lines(outcomes.map((o) => [...position(origin, o.offset, o.appendTimeMs), o.outcome, o.detail]));
}

export function deadLetterRows(origin: RowOrigin, letters: readonly DeadLetter[]): Uint8Array {
  return lines(
    letters.map(({ record, errorClass, error }) => [
      ...position(origin, record.offset, record.appendTimeMs),
      errorClass,
      // Cutting may leave half a character, which ClickHouse would not read.
      error.slice(0, ERROR_CHARS_MAX).toWellFormed(),
      Buffer.from(record.key).toString("base64"),
      Buffer.from(record.value).toString("base64"),
    ]),
  );
}

const formatTime = createTimeFormatter();

function position(origin: RowOrigin, offset: number, appendTimeMs: number) {
  return [origin.epoch, origin.topic, origin.partition, offset, formatTime(appendTimeMs * 1000)];
}

function lines(rows: readonly unknown[][]): Uint8Array {
  return Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
}
