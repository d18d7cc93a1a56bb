// Answers in one piece, the same over HTTP/1.1 and HTTP/2.
import type { OutgoingHttpHeaders } from "node:http";
import type { HttpResponse } from "./message.ts";

/** Text goes out in one piece with the head, and so do bytes as text; as they are they would be a piece of their own. */
export function send(
  response: HttpResponse,
  status: number,
  content: string | Buffer,
  headers: OutgoingHttpHeaders = {},
): void {
  response.writeHead(status, { ...headers, "content-length": String(Buffer.byteLength(content)) });
  if (typeof content === "string") response.end(content);
  else response.end(content.toString("latin1"), "latin1");
}

export function sendJson(
  response: HttpResponse,
  status: number,
  value: unknown,
  headers: OutgoingHttpHeaders = {},
): void {
  send(response, status, JSON.stringify(value), { "content-type": "application/json; charset=utf-8", ...headers });
}

export function sendText(
  response: HttpResponse,
  status: number,
  text: string,
  headers: OutgoingHttpHeaders = {},
): void {
  send(response, status, text, { ...headers, "content-type": "text/plain; charset=utf-8" });
}

/** Nothing but the status. */
export function sendEmpty(response: HttpResponse, status: number, headers: OutgoingHttpHeaders = {}): void {
  send(response, status, "", headers);
}
