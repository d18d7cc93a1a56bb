// The first line of a connection: id and token.
import { createTokenCheck } from "#lib/http/credential.ts";
import type { Identity } from "./connection.ts";

/** An id is part of every record. */
const ID_BYTES_MAX = 1_024;

/**
 * Reads what follows the word `id`: all of it is the id, spaces included. With a token, the last word is the token and
 * what is before it the id.
 */
export function createIdentify(token: string | undefined): (text: string) => Identity {
  const isToken = token === undefined ? undefined : createTokenCheck(token);
  return (text) => {
    const space = text.lastIndexOf(" ");
    if (isToken && !isToken(text.slice(space + 1))) return { refusal: "wrong token", reason: "wrong_token" };
    const id = isToken ? text.slice(0, Math.max(0, space)) : text;
    return Buffer.byteLength(id) > ID_BYTES_MAX ? { refusal: "id too long", reason: "bad_id" } : { id };
  };
}
