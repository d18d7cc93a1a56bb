// What a wire's bodies may look like: their media types, and how browsers pack JSON so that no preflight is needed.
import { charsetOf, declaredLength, mediaType } from "#lib/http/body.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { queryOf } from "./caller-keys.ts";
import { refused } from "./refusals.ts";

export interface BodyForm {
  /** Media types that are taken; "" is a request without one, absent is any. */
  readonly types?: readonly string[];
  /**
   * The body may be gzip although no header says so, base64, or a form whose field `data` is either: its first bytes say
   * which. What `?compression=` says must only be one of the ways we know.
   */
  readonly mayBePacked?: boolean;
}

export const JSON_FORM: BodyForm = { types: ["application/json"] };
/** As analytics libraries of browsers send JSON: what asks for no preflight as well. */
export const BROWSER_FORM: BodyForm = {
  types: ["application/json", "text/plain", "application/x-www-form-urlencoded", ""],
  mayBePacked: true,
};
const COMPRESSIONS = new Set(["", "gzip", "gzip-js", "base64"]);

const BRACE = 0x7b;
const BRACKET = 0x5b;
const BASE64 = /^[\w+/-]*={0,2}\s*$/;

/** Media type, charset, `?compression=` and declared length. Throws Refused. */
export function assertBodyForm(request: HttpRequest, form: BodyForm, maxBytes: number): void {
  const given = mediaType(request);
  if (form.types && !form.types.includes(given)) {
    throw refused("media_type", { given, wanted: form.types.filter((type) => type !== "").join(" or ") });
  }
  const charset = charsetOf(request);
  if (charset !== "utf-8" && charset !== "utf8") throw refused("charset", { given: charset });
  const compression = form.mayBePacked ? compressionOf(request) : "";
  if (!COMPRESSIONS.has(compression)) throw refused("compression", { given: compression });
  if (declaredLength(request) > maxBytes) throw refused("body_too_large", { maxBytes });
}

function compressionOf(request: HttpRequest): string {
  return request.url?.includes("compression=") ? (queryOf(request).get("compression") ?? "") : "";
}

/**
 * The JSON text of a body that may be a form's field `data`, or base64 that the query calls so. `grow` gets the number of bytes that this takes
 * before it takes them; what comes out is never longer than what went in. Throws Refused.
 */
export function unpacked(body: Buffer, request: HttpRequest, grow: (bytes: number) => void): Buffer {
  if (isJson(body)) return body;
  grow(3 * body.length);
  const text = body.toString("latin1");
  const data = dataOf(text);
  if (data === undefined) {
    return compressionOf(request) === "base64" && BASE64.test(text) ? Buffer.from(text, "base64") : body;
  }
  const decoded = Buffer.from(unescapedField(data));
  if (isJson(decoded)) return decoded;
  // A plus sign that was not escaped is a space by the rules of forms.
  const base64 = decoded.toString("latin1").replaceAll(" ", "+");
  if (!BASE64.test(base64)) throw invalid("is neither JSON nor base64 of it");
  return Buffer.from(base64, "base64");
}

/** It begins like an object or an array; a byte order mark or white space may come first. */
function isJson(body: Buffer): boolean {
  let at = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? 3 : 0;
  while (at < body.length && (body[at] as number) <= 0x20) at++;
  return body[at] === BRACE || body[at] === BRACKET;
}

/** The form's field `data` as it was sent; undefined when there is none. */
function dataOf(text: string): string | undefined {
  const from = text.startsWith("data=") ? 0 : text.indexOf("&data=") + 1;
  if (from === 0 && !text.startsWith("data=")) return undefined;
  const end = text.indexOf("&", from);
  return text.slice(from + "data=".length, end < 0 ? undefined : end);
}

function unescapedField(field: string): string {
  try {
    return decodeURIComponent(field.replaceAll("+", " "));
  } catch {
    // It throws for escapes that make no text, nothing else.
    throw invalid("is not percent-encoded text");
  }
}

function invalid(fault: string) {
  return refused("body_invalid", { field: "data", fault });
}
