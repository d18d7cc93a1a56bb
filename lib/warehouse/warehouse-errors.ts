// What an exception of ClickHouse means for the one who sent the rows. Numbers are ClickHouse's ErrorCodes.cpp.
import { WarehouseError, type WarehouseErrorKind } from "./warehouse.ts";

export type Operation = "query" | "command" | "insert" | "ping";

/** The rows cannot be read as the table's types; the same bytes will never be. */
const REJECTED_ROWS = new Set([
  6, // CANNOT_PARSE_TEXT
  25, // CANNOT_PARSE_ESCAPE_SEQUENCE
  26, // CANNOT_PARSE_QUOTED_STRING
  27, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  33, // CANNOT_READ_ALL_DATA
  38, // CANNOT_PARSE_DATE
  41, // CANNOT_PARSE_DATETIME
  53, // TYPE_MISMATCH
  69, // ARGUMENT_OUT_OF_BOUND
  70, // CANNOT_CONVERT_TYPE
  72, // CANNOT_PARSE_NUMBER
  117, // INCORRECT_DATA
  128, // TOO_LARGE_ARRAY_SIZE
  130, // CANNOT_READ_ARRAY_FROM_TEXT
  131, // TOO_LARGE_STRING_SIZE
  190, // SIZES_OF_ARRAYS_DONT_MATCH
  321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  376, // CANNOT_PARSE_UUID
  407, // DECIMAL_OVERFLOW
  441, // CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
  467, // CANNOT_PARSE_BOOL
  469, // VIOLATED_CONSTRAINT
  675, // CANNOT_PARSE_IPV4
  676, // CANNOT_PARSE_IPV6
  691, // UNKNOWN_ELEMENT_OF_ENUM
]);

/** The statement itself is wrong, or asks for more than its limits give; sending it again changes nothing. */
const REJECTED_STATEMENT = new Set([
  ...REJECTED_ROWS,
  36, // BAD_ARGUMENTS
  42, // NUMBER_OF_ARGUMENTS_DOESNT_MATCH
  43, // ILLEGAL_TYPE_OF_ARGUMENT
  46, // UNKNOWN_FUNCTION
  48, // NOT_IMPLEMENTED
  62, // SYNTAX_ERROR
  158, // TOO_MANY_ROWS
  184, // ILLEGAL_AGGREGATION
  215, // NOT_AN_AGGREGATE
  395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
  396, // TOO_MANY_ROWS_OR_BYTES
  456, // UNKNOWN_QUERY_PARAMETER
  457, // BAD_QUERY_PARAMETER
]);

const TOO_MANY_PARTS = 252;

/** ClickHouse is there and has too much to do: the same call succeeds once it has caught up. */
const BUSY = new Set([
  TOO_MANY_PARTS,
  202, // TOO_MANY_SIMULTANEOUS_QUERIES
  241, // MEMORY_LIMIT_EXCEEDED
  439, // CANNOT_SCHEDULE_TASK
]);

const MIGRATE = "run `millrace migrate`; if a table was changed by hand, take that back";
const ACCOUNT = "set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD to an account that this server knows";
const GRANT = "grant the account SELECT and INSERT on the tables of CLICKHOUSE_DATABASE";
const SETTINGS = "allow the account to change the settings of an insert, on a version of ClickHouse that has them";

/** Faults that stay until somebody repairs them. They wait like any other: no row is to blame. */
const REMEDIES = new Map([
  [8, MIGRATE], // THERE_IS_NO_COLUMN
  [10, MIGRATE], // NOT_FOUND_COLUMN_IN_BLOCK
  [16, MIGRATE], // NO_SUCH_COLUMN_IN_TABLE
  [20, MIGRATE], // NUMBER_OF_COLUMNS_DOESNT_MATCH
  [44, MIGRATE], // ILLEGAL_COLUMN
  [47, MIGRATE], // UNKNOWN_IDENTIFIER
  [60, MIGRATE], // UNKNOWN_TABLE
  [81, MIGRATE], // UNKNOWN_DATABASE
  [115, SETTINGS], // UNKNOWN_SETTING
  [452, SETTINGS], // SETTING_CONSTRAINT_VIOLATION
  [164, "the account is read-only: give its profile readonly = 0"], // READONLY
  [242, "the table is read-only: check that its replica reaches Keeper, and its disk"], // TABLE_IS_READ_ONLY
  [285, "bring the missing replicas back: an insert needs more than half of them"], // TOO_FEW_LIVE_REPLICAS
  [192, ACCOUNT], // UNKNOWN_USER
  [193, ACCOUNT], // WRONG_PASSWORD
  [194, ACCOUNT], // REQUIRED_PASSWORD
  [516, ACCOUNT], // AUTHENTICATION_FAILED
  [291, GRANT], // DATABASE_ACCESS_DENIED
  [497, GRANT], // ACCESS_DENIED
  [243, "free space on ClickHouse's disk"], // NOT_ENOUGH_SPACE
]);

/** ClickHouse says so at the end; text of a row that it quotes has a quotation mark after it. */
const IN_VIEW = ": while pushing to view ";

function failedInView(message: string): boolean {
  const at = message.lastIndexOf(IN_VIEW);
  return at >= 0 && /^[^'"]+$/.test(message.slice(at + IN_VIEW.length));
}

const TIMEOUT_EXCEEDED = 159;

/** The question took longer than it may: asked again it will, a smaller one may not. */
export function isTooSlow(error: unknown): boolean {
  return error instanceof WarehouseError && (error.code === TIMEOUT_EXCEEDED || error.isTimeout);
}

/** For an answer that is not ClickHouse's. */
export const FOREIGN_REMEDY =
  "what answers at CLICKHOUSE_URL is not ClickHouse: look at the proxy or load balancer in between, its limits and its log";

/** What a person can do about an exception that does not pass by itself; undefined for one that may. */
export function remedyOf(code: number | undefined, message: string): string | undefined {
  if (failedInView(message)) return "repair or drop the materialized view";
  return code === undefined ? undefined : REMEDIES.get(code);
}

/** Whether the exception of a transient failure is back-pressure, given by a ClickHouse that works. */
export function isBackPressure(code: number | undefined): boolean {
  return code !== undefined && BUSY.has(code);
}

/**
 * Everything unknown is transient: waiting for a person to look loses nothing, and a wrong "rejected" would. That also
 * covers a missing table, database or column, which a migration repairs without touching the rows.
 */
export function classify(operation: Operation, code: number, message: string): WarehouseErrorKind {
  // One code for two causes: parts pile up (wait), or this one insert touches too many partitions (split it).
  if (code === TOO_MANY_PARTS)
    return /partitions for single INSERT/i.test(message) ? "too_many_partitions" : "transient";
  // A view that fails does so after the table has taken the rows: sent again under another token they would be doubled.
  if (operation === "insert" && failedInView(message)) return "transient";
  const rejected = operation === "insert" ? REJECTED_ROWS : REJECTED_STATEMENT;
  return rejected.has(code) ? "rejected" : "transient";
}
