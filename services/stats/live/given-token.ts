// The token a request carries.
import type { HttpRequest } from "#lib/http/message.ts";

/** Name of the header, in lower case, and of the query field as the old API spells it. */
export const TOKEN_FIELD = "X-AUTH-TOKEN";

/**
 * The token that a request brings: `authorization: Bearer TOKEN`, `x-auth-token`, or, where a query is given, its field
 * X-AUTH-TOKEN, because an EventSource cannot set headers. "" when there is none.
 */
export function givenToken({ headers }: HttpRequest, query?: URLSearchParams): string {
  const [, bearer] = /^bearer +(.*)$/is.exec(headers.authorization ?? "") ?? [];
  const given = bearer ?? headers["x-auth-token"];
  return typeof given === "string" && given !== "" ? given : (query?.get(TOKEN_FIELD) ?? "");
}
