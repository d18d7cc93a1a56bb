// The first line of a connection: id and token.
import { createTokenCheck } from "#lib/http/credential.ts";
import { textFault, withoutBlanks } from "#lib/relay-protocol/lines.ts";
import type { Identity } from "./connection.ts";

/** An id is part of every record. */
const ID_BYTES_MAX = 1_024;
const FAULTS = { not_utf8: "id is not UTF-8", control_character: "id has a control character" };

/**
 * Reads what follows the word `id`: all of it is the id, spaces within it included. With a token, the last word is the token and
 * what is before it the id.
 */
export function createIdentify(token: string | undefined): (text: string) => Identity {
  const isToken = token === undefined ? undefined : createTokenCheck(token);
  return (text) => {
    const space = text.lastIndexOf(" ");
    if (isToken && !isToken(text.slice(space + 1))) return { refusal: "wrong token", reason: "wrong_token" };
    const id = withoutBlanks(isToken ? text.slice(0, Math.max(0, space)) : text);
    if (Buffer.byteLength(id) > ID_BYTES_MAX) return { refusal: "id too long", reason: "bad_id" };
    const fault = textFault(id);
    return fault ? { refusal: FAULTS[fault], reason: "bad_id" } : { id };
  };
}
