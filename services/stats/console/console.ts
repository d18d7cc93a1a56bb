// The console: the page that browsers get at `/` of the stats port, and the files it is made of. Nothing in them is secret;
// what they show is asked for by RPC, with the credential that the person at the browser gives.
import { sendEmpty, sendJson, sendText } from "#lib/http/answers.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import { packageVersion } from "#lib/process/version.ts";
import type { Mounted } from "../mount.ts";
import { createFiles } from "./files.ts";

/** What only the process around the stats service knows. */
export interface ConsoleParts {
  /** Port of a gateway on the same host. */
  gatewayPort?: (() => number | undefined) | undefined;
}

export interface ConsoleOptions extends ConsoleParts {
  /** Address of the gateway as callers reach it. */
  gatewayUrl: string | undefined;
  /** Whether what the page shows needs a credential. */
  asksForKey: boolean;
  /** Whether the gateway asks its callers for a key. */
  gatewayHasKeys: boolean;
  /** Whether holders of a secret key may replay dead letters. */
  canReplay: boolean;
  logger: Logger;
}

const FOLDER = "/console/";
const INDEX = "index.html";
const CONFIG = "config.json";
/** lit-html makes its templates by a policy of this name; nothing else makes markup from text. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types lit-html",
].join("; ");
const HEADERS = {
  "content-security-policy": POLICY,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  // Asked again each time, and answered 304: a page of the version before would not fit the service.
  "cache-control": "no-cache",
} as const;

/** Answers GET and HEAD of `/` for browsers and of everything below /console/; leaves any other request untouched. */
export function createConsole({ logger, ...options }: ConsoleOptions): Mounted {
  const files = createFiles();

  async function serve(request: HttpRequest, response: HttpResponse, name: string): Promise<void> {
    const file = (await files()).get(name);
    if (isCallerGone(response)) return;
    if (!file) {
      sendText(response, 404, "404 page not found\n");
      return;
    }
    const headers = { ...HEADERS, etag: file.etag, vary: "accept, accept-encoding" };
    if (request.headers["if-none-match"] === file.etag) {
      response.writeHead(304, headers);
      response.end();
      return;
    }
    const isPacked = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
    const body = isPacked ? file.gzip : file.body;
    const encoding = isPacked ? { "content-encoding": "gzip" } : {};
    response.writeHead(200, {
      ...headers,
      ...encoding,
      "content-type": file.type,
      "content-length": String(body.length),
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }

  return (request, response) => {
    const { method = "", url = "" } = request;
    if (method !== "GET" && method !== "HEAD") return false;
    const [path = ""] = url.split("?", 1);
    const isPage = path === "/" && isBrowser(request);
    if (!isPage && !path.startsWith(FOLDER)) return false;
    const name = isPage ? INDEX : path.slice(FOLDER.length);
    if (name === CONFIG) {
      const { gatewayPort, ...told } = options;
      const config = {
        ...told,
        gatewayPort: gatewayPort?.(),
        version: packageVersion(),
      };
      sendJson(response, 200, config, { ...HEADERS, "cache-control": "no-store" });
      return true;
    }
    serve(request, response, name).catch((error: unknown) => {
      logger.error({ err: error }, "the console cannot be shown");
      if (!response.headersSent) sendEmpty(response, 500);
    });
    return true;
  };
}

/** Programs take anything, or JSON; only browsers name HTML. */
function isBrowser({ headers: { accept = "" } }: HttpRequest): boolean {
  return accept.toLowerCase().includes("text/html");
}
