// What a browser under test talks to beside the standalone: pages that use the SDK, and a /batch/ that answers as told.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";

interface Listening extends AsyncDisposable {
  readonly port: number;
}

async function listen(server: Server): Promise<Listening> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const APP = `
import millrace from "/sdk/index.js";
const { options, register, optOut } = JSON.parse(document.documentElement.dataset.setup);
if (optOut) millrace.opt_out_capturing();
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
if (options) millrace.init(options);
if (register) millrace.register(register);
window.millrace = millrace;
document.documentElement.dataset.ready = "yes";
`;

const BODY = `
<button id="buy" class="big red">Buy <b>now</b></button>
<a id="link" href="#part">a part</a>
<p id="plain">text</p>
<div class="cpa-no-capture"><button id="private">private</button></div>
<form id="login" action="javascript:void 0">
  <input id="user" name="user"><input id="word" type="password"><input id="hid" type="hidden" value="hidden-secret">
  <input id="pin" name="cardNumber"><input id="marked" type="password" class="cpa-include">
  <button id="go" type="button">go</button>
</form>`;

export interface WebPages extends Listening {
  /** Its origin, as a page of localhost. */
  readonly origin: string;
  /** The address of a page that starts the SDK with these. `headers` are those of the page's answer. */
  url(setup: object, options?: { headers?: Record<string, string>; host?: string; path?: string }): string;
}

/** Serves the built SDK at /sdk/, posthog-js at /posthog.js, and pages at every other path. */
export async function serveWebPages(sdk: string, posthog: string): Promise<WebPages> {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const script = await scriptOf(url.pathname);
    const headers = JSON.parse(url.searchParams.get("headers") ?? "{}") as Record<string, string>;
    if (script !== undefined) response.setHeader("access-control-allow-origin", "*");
    const type = script === undefined ? "text/html" : "text/javascript";
    response.writeHead(200, { "content-type": `${type}; charset=utf-8`, ...headers });
    const setup = (url.searchParams.get("setup") ?? "{}").replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    const page = `<!doctype html><html data-setup="${setup}"><title>Page</title><body>${BODY}
<script type="module" crossorigin src="/app.js"></script></body></html>`;
    response.end(script ?? page);
  });

  async function scriptOf(path: string): Promise<string | undefined> {
    if (path === "/app.js") return APP;
    if (path === "/posthog.js") return readFile(posthog, "utf8");
    return path.startsWith("/sdk/") ? readFile(join(sdk, normalize(path.slice("/sdk".length))), "utf8") : undefined;
  }

  const listening = await listen(server);
  return {
    ...listening,
    origin: `http://localhost:${listening.port}`,
    url(setup, { headers = {}, host = "localhost", path = "/" } = {}) {
      const query = new URLSearchParams({ setup: JSON.stringify(setup), headers: JSON.stringify(headers) });
      return `http://${host}:${listening.port}${path}?${query}`;
    },
  };
}

export interface SentEvent {
  uuid: string;
  event: string;
  timestamp: string;
  properties: Record<string, unknown>;
}

export interface SentBatch {
  url: string;
  atMs: number;
  sentAt: string;
  checkStored: unknown;
  batch: SentEvent[];
}

interface Answer {
  status: number;
  headers?: Record<string, string>;
}

export interface ScriptedBatch extends Listening {
  readonly url: string;
  readonly received: SentBatch[];
  /** Default 200 for all. "lost" takes the request and closes the connection. */
  answer(next: (batch: SentBatch) => Answer | "lost"): void;
}

/** A /batch/ for the answers that a gateway in good health does not give. Any origin may call. */
export async function serveScriptedBatch(): Promise<ScriptedBatch> {
  const received: SentBatch[] = [];
  let decide: (batch: SentBatch) => Answer | "lost" = () => ({ status: 200 });
  const server = createServer(async (request, response) => {
    const cors = {
      "access-control-allow-origin": request.headers.origin ?? "*",
      "access-control-allow-credentials": "true",
      "access-control-allow-headers": "content-type, content-encoding",
      "access-control-expose-headers": "retry-after",
    };
    if (request.method === "OPTIONS") return response.writeHead(204, cors).end();
    const batch = await readBatch(request);
    received.push(batch);
    const answer = decide(batch);
    if (answer === "lost") return request.socket.destroy();
    response.writeHead(answer.status, { ...cors, ...answer.headers, "content-type": "application/json" }).end("{}");
  });
  const listening = await listen(server);
  return {
    ...listening,
    url: `http://127.0.0.1:${listening.port}`,
    received,
    answer(next) {
      decide = next;
    },
  };
}

async function readBatch(request: IncomingMessage): Promise<SentBatch> {
  const bytes = await buffer(request);
  const json = request.headers["content-encoding"] === "gzip" ? gunzipSync(bytes) : bytes;
  const { batch, sent_at, check_stored } = JSON.parse(json.toString()) as {
    batch: SentEvent[];
    sent_at: string;
    check_stored?: unknown;
  };
  return { url: request.url ?? "", atMs: Date.now(), sentAt: sent_at, checkStored: check_stored, batch };
}
