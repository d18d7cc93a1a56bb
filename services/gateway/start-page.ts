// GET / for a person who opens the gateway's address in a browser: where the console is.
import { send } from "#lib/http/answers.ts";
import { bareName } from "#lib/http/loopback.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";

const HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
} as const;
/** What can stand in an address as it is: the Host header is the caller's. */
const NAME = /^[\w.-]+$|^[\da-f:]+$/;

/** Answers and returns true if a browser asks for `/`; leaves any other request untouched. */
export function createStartPage({ consolePort, scheme }: { consolePort: number; scheme: "http" | "https" }) {
  return (request: HttpRequest, response: HttpResponse): boolean => {
    if (request.url !== "/" || request.method !== "GET") return false;
    if (!(request.headers.accept ?? "").toLowerCase().includes("text/html")) return false;
    const asked = bareName(request.headers.host ?? "");
    const name = NAME.test(asked) ? asked : "127.0.0.1";
    const url = `${scheme}://${name.includes(":") ? `[${name}]` : name}:${consolePort}/`;
    send(response, 200, page(url), HEADERS);
    return true;
  };
}

function page(url: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Millrace gateway</title>
<h1>Millrace gateway</h1>
<p>Programs send events to this address. To see them, open the console:</p>
<p><a href="${url}">${url}</a></p>
</html>
`;
}
