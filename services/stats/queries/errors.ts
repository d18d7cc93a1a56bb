// What a question about stats can come to instead of an answer.
import type { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { CLICKHOUSE_AWAY } from "../refusals.ts";

/**
 * invalid: the question itself is wrong, or asks for what is not kept; asking again changes nothing.
 * too_much: it would take more rows or memory than one question may; ask for less.
 * busy: too many questions at once; ask again shortly.
 * unavailable: ClickHouse is away or slow; ask again shortly.
 */
export type StatsQueryErrorKind = "invalid" | "too_much" | "busy" | "unavailable";

/** The message is fit for the caller's eyes. */
export class StatsQueryError extends Error {
  override readonly name = "StatsQueryError";
  readonly kind: StatsQueryErrorKind;

  constructor(kind: StatsQueryErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

const ROWS_OR_BYTES = new Set([
  158, // TOO_MANY_ROWS
  191, // SET_SIZE_LIMIT_EXCEEDED
  307, // TOO_MANY_BYTES
  396, // TOO_MANY_ROWS_OR_BYTES
]);
const MEMORY_LIMIT_EXCEEDED = 241;
const TIMEOUT_EXCEEDED = 159;

/** What a failure of the warehouse is to the caller; undefined when the query was wrong, which no caller can help. */
export function describeFailure(error: WarehouseError): StatsQueryError | undefined {
  const { code, kind } = error;
  const text = error.cause instanceof Error ? error.cause.message : "";
  // The server's own limit has the same code: that one is not the question's fault.
  const isOwnMemory = code === MEMORY_LIMIT_EXCEEDED && !/\((total|for user)\)/i.test(text);
  if (isOwnMemory || (code !== undefined && ROWS_OR_BYTES.has(code))) {
    return new StatsQueryError("too_much", "too much data for one query: ask for a shorter time or fewer series", {
      cause: error,
    });
  }
  if (kind !== "transient") return undefined;
  const message = code === TIMEOUT_EXCEEDED ? "the query took too long; try again, or ask for less" : CLICKHOUSE_AWAY;
  return new StatsQueryError("unavailable", message, { cause: error });
}
