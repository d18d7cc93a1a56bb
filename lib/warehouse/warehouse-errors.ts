// What an exception of ClickHouse means for the one who sent the rows. Numbers are ClickHouse's ErrorCodes.cpp.
import type { WarehouseErrorKind } from "./warehouse.ts";

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
  636, // CANNOT_EXTRACT_TABLE_STRUCTURE
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

/**
 * Everything unknown is transient: waiting for a person to look loses nothing, and a wrong "rejected" would. That also
 * covers a missing table, database or column, which a migration repairs without touching the rows.
 */
export function classify(operation: Operation, code: number, message: string): WarehouseErrorKind {
  // One code for two causes: parts pile up (wait), or this one insert touches too many partitions (split it).
  if (code === TOO_MANY_PARTS)
    return /partitions for single INSERT/i.test(message) ? "too_many_partitions" : "transient";
  const rejected = operation === "insert" ? REJECTED_ROWS : REJECTED_STATEMENT;
  return rejected.has(code) ? "rejected" : "transient";
}
