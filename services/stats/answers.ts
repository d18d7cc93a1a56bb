// Answers in pulse's form.
import { send } from "#lib/http/answers.ts";
import type { HttpResponse } from "#lib/http/message.ts";

/** What a page is told that nobody has named, where it may not ask without a token. */
export const FOREIGN_PAGE = { error: "web pages need STATS_TOKEN to be set and sent, or CORS_ALLOW to name them" };

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
