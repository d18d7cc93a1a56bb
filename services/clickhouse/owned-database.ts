// Tables of Millrace are not changed by accident: where no password is set, anyone who can reach the endpoint may read them, and
// only the standalone itself and its user's commands may write.
import type { IncomingHttpHeaders } from "node:http";
import { createTokenCheck, headerText } from "#lib/http/credential.ts";
import { OWNER_HEADER } from "#lib/warehouse/owner-key.ts";
import type { SqlToken } from "#lib/warehouse/sql.ts";
import { endpointError } from "./errors.ts";
import { isKeyword, isRead, isSymbol, type Statement } from "./statement.ts";

export interface OwnedDatabase {
  database: string;
  key: string;
}

interface Asked {
  statement: Statement;
  /** The request's own, in which bare names are looked up. */
  database: string | undefined;
  params: ReadonlyMap<string, string>;
}

/** Throws a ClickHouseError (READONLY) for a statement that would change the database, unless its caller has the key. */
export function assertUnowned(owned: OwnedDatabase, headers: IncomingHttpHeaders, asked: Asked): void {
  const { statement } = asked;
  if (isRead(statement) || !changes(owned.database, asked)) return;
  if (createTokenCheck(owned.key)(headerText(headers[OWNER_HEADER]))) return;
  throw endpointError(
    164,
    `The tables of ${owned.database} are read-only here, so that nothing is lost by accident. To change them, set ` +
      "CLICKHOUSE_PASSWORD and send it, or set CLICKHOUSE_WRITABLE=true. docs/operations.md says how to delete events.",
  );
}

function changes(owned: string, { statement, database, params }: Asked): boolean {
  if (database === owned) return true;
  const names = new Set([...[...params.values()], ...changed(statement).map(({ text }) => text)]);
  return names.has(owned);
}

/** The part of a statement that names what is changed: what is read to fill a table, or by a view, stays out. */
function changed({ keyword, tokens, target }: Statement): readonly SqlToken[] {
  const end = (at: number) => (at < 0 ? tokens.length : at);
  if (target || keyword === "INSERT") {
    return tokens.slice(0, end(tokens.findIndex((token, at) => at > 1 && (isSymbol(token, "(") || startsRows(token)))));
  }
  const isView = tokens.slice(1, 5).some((token) => isKeyword(token, "MATERIALIZED"));
  // A view that is filled by inserts takes part in them, and can make them fail.
  if (keyword !== "CREATE" || isView) return tokens;
  return tokens.slice(0, end(tokens.findIndex((token) => isKeyword(token, "AS"))));
}

function startsRows(token: SqlToken): boolean {
  return ["SELECT", "WITH", "VALUES", "FORMAT", "SETTINGS"].some((word) => isKeyword(token, word));
}
