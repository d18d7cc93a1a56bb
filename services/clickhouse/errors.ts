// Exceptions as ClickHouse's HTTP interface words them: a numbered code, a name, a status.

/** Codes this endpoint raises itself; the engine raises many more. */
const NAMES = {
  16: "NO_SUCH_COLUMN_IN_TABLE",
  27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
  36: "BAD_ARGUMENTS",
  48: "NOT_IMPLEMENTED",
  62: "SYNTAX_ERROR",
  73: "UNKNOWN_FORMAT",
  115: "UNKNOWN_SETTING",
  159: "TIMEOUT_EXCEEDED",
  164: "READONLY",
  194: "REQUIRED_PASSWORD",
  202: "TOO_MANY_SIMULTANEOUS_QUERIES",
  210: "NETWORK_ERROR",
  243: "NOT_ENOUGH_SPACE",
  307: "TOO_MANY_BYTES",
  354: "CANNOT_DECOMPRESS",
  372: "SESSION_NOT_FOUND",
  394: "QUERY_WAS_CANCELLED",
  497: "ACCESS_DENIED",
  516: "AUTHENTICATION_FAILED",
  1001: "STD_EXCEPTION",
} as const;

type EndpointCode = keyof typeof NAMES;

/** An answer other than 200. `message` is the body, in the form that ClickHouse's clients parse. */
export class ClickHouseError extends Error {
  override readonly name = "ClickHouseError";
  readonly code: number;
  readonly status: number;

  constructor(message: string, code: number, status: number, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.status = status;
  }
}

/** An error of this endpoint; `status` only where the code alone does not decide it. */
export function endpointError(code: EndpointCode, text: string, status = statusOf(code)): ClickHouseError {
  return new ClickHouseError(`Code: ${code}. DB::Exception: ${text} (${NAMES[code]})`, code, status);
}

/** An error the engine raised, with the code it names itself. */
export function engineError(cause: unknown): ClickHouseError {
  if (cause instanceof ClickHouseError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  const code = Number(/^Code: (\d+)\. /.exec(message)?.[1] ?? 0);
  if (code === 0)
    return new ClickHouseError(`Code: 1001. DB::Exception: ${message} (STD_EXCEPTION)`, 1001, 500, { cause });
  return new ClickHouseError(message, code, statusOf(code), { cause });
}

// As ClickHouse's HTTPHandler maps them, and 403 for what is refused, 503 for what is only busy.
const STATUS_CODES: Record<number, readonly number[]> = {
  400: [6, 7, 26, 27, 32, 36, 38, 41, 43, 53, 62, 69, 72, 117, 354, 427, 456, 457],
  401: [194],
  403: [164, 192, 193, 452, 497, 516],
  404: [16, 46, 47, 50, 56, 60, 73, 81, 110, 115, 372, 511],
  408: [159],
  413: [307],
  501: [48],
  503: [202, 203, 209, 210, 243, 252, 439],
};

function statusOf(code: number): number {
  for (const [status, codes] of Object.entries(STATUS_CODES)) if (codes.includes(code)) return Number(status);
  return 500;
}
