// Answers in pulse's form.
import type { ServerResponse } from "node:http";
import type { HttpResponse } from "#lib/http/message.ts";

/** Compact JSON as Go's encoder writes it, with a line break at the end. */
export function goJson(value: unknown): string {
  const text = JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `${text}\n`;
}

export function sendJson(
  response: HttpResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  send(response, status, goJson(value), { ...headers, "content-type": "application/json" });
}

export function sendText(response: HttpResponse, status: number, text: string): void {
  send(response, status, text, { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" });
}

/** Nothing but the status. */
export function sendEmpty(
  response: HttpResponse,
  status: number,
  headers: Readonly<Record<string, string>> = {},
): void {
  send(response, status, "", headers);
}

function send(response: HttpResponse, status: number, body: string, headers: Readonly<Record<string, string>>): void {
  // The two response types have the same methods, but their overloads do not unite.
  const out = response as ServerResponse;
  out.writeHead(status, { ...headers, "content-length": String(Buffer.byteLength(body)) });
  out.end(body);
}
