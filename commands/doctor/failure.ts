// An error as a finding: what happened, and the remedy if the error knows one.
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { remedyOf } from "#lib/warehouse/warehouse-errors.ts";
import type { Finding } from "./probe.ts";

const START_CLICKHOUSE =
  "start ClickHouse (`millrace start` has one of its own), or name its HTTP interface with CLICKHOUSE_URL";

export function failureOf(error: unknown): Finding {
  if (error instanceof LogUnavailableError) {
    // Its messages are: what could not be done, a colon, the remedy.
    const at = error.message.indexOf(": ");
    const [what, fix] = at < 0 ? [error.message] : [error.message.slice(0, at), error.message.slice(at + 2)];
    return { status: "fail", what: `${what}${reasonOf(error)}`, fix };
  }
  if (error instanceof WarehouseError) {
    const { code, message } = error;
    const remedy = remedyOf(code, message) ?? (code === undefined ? START_CLICKHOUSE : undefined);
    return { status: "fail", what: `${message}${reasonOf(error)}`, fix: remedy };
  }
  return { status: "fail", what: messageOf(error) };
}

/** The innermost cause, in parentheses; "" when there is none. */
export function reasonOf(error: Error): string {
  let innermost: unknown = error;
  for (let depth = 0; innermost instanceof Error && innermost.cause !== undefined && depth < 5; depth++) {
    innermost = innermost.cause;
  }
  return innermost === error ? "" : ` (${messageOf(innermost)})`;
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const [first = ""] = error.message.trim().split("\n");
  // Of several attempts at one name, such as ::1 and 127.0.0.1, only the code is told.
  return first || ((error as NodeJS.ErrnoException).code ?? error.name);
}
