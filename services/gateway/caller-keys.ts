// Where callers put their key: in the headers of every path, and where a wire's own clients put it.
import { credentialsOf, headerText } from "#lib/http/credential.ts";
import type { HttpRequest } from "#lib/http/message.ts";

/** Beside the headers that every path reads. The body is read by the wire, under `BODY_KEY_NAMES`. */
export interface KeyPlaces {
  headers?: readonly string[];
  query?: readonly string[];
}

/** The members of a body that hold a key, the first that is there counts. */
export const BODY_KEY_NAMES = ["api_key", "token", "writeKey"] as const;

/** All that the request brings outside its body, trimmed; the wire's own places come last. */
export function keysOf(request: HttpRequest, { headers = [], query = [] }: KeyPlaces = {}): string[] {
  const keys = credentialsOf(request);
  for (const name of headers) {
    const key = headerText(request.headers[name]);
    // Jitsu's keys are NAME:SECRET, and its library complains of any other.
    keys.push(key, key.includes(":") ? key.slice(key.indexOf(":") + 1) : "");
  }
  if (query.length > 0) {
    const given = queryOf(request);
    for (const name of query) keys.push(given.get(name) ?? "");
  }
  return keys.map((key) => key.trim()).filter((key) => key !== "");
}

/** The request's query, decoded; what follows # is not part of it. */
export function queryOf({ url = "" }: HttpRequest): URLSearchParams {
  const at = url.indexOf("?");
  return new URLSearchParams(at < 0 ? "" : url.slice(at + 1).split("#", 1)[0]);
}
