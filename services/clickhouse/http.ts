// The part of ClickHouse's HTTP interface that its clients use, before an engine in this process.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { limitConnections } from "#lib/http/connection-limits.ts";
import { type AccessOptions, assertCredentials, assertLocalRequest } from "./auth.ts";
import { type ClickHouseError, endpointError, engineError } from "./errors.ts";
import { assertUnowned, type OwnedDatabase } from "./owned-database.ts";
import { type BodyBudget, readRequest } from "./request.ts";
import { createResultResponse } from "./result-response.ts";
import type { Engine } from "./sessions.ts";
import { READ_KEYWORDS, readStatement, type Statement } from "./statement.ts";

interface HttpOptions extends AccessOptions {
  owned?: OwnedDatabase | undefined;
  /** Bound on one body, after decompression. */
  maxBodyBytes: number;
}

const CONNECTIONS_MAX = 512;
const HEADERS_MS_MAX = 10_000;
const BODIES_IN_FLIGHT_MAX = 4;
/** Longer than any client's idle_socket_ttl, so that the client is the one who closes an idle connection. */
const KEEP_ALIVE_MS = 30_000;

/** What a person finds where ClickHouse has an editor. */
const PLAY = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Millrace: ClickHouse endpoint</title>
<h1>No editor here</h1>
<p>This is the ClickHouse endpoint of Millrace. Look at your events in Millrace's console, which
<code>millrace start</code> prints first, or ask in SQL with any client of ClickHouse's HTTP interface:</p>
<pre>curl http://127.0.0.1:8123/ --data-binary 'SELECT event, count() FROM millrace.events GROUP BY event'</pre>
</html>
`;

/** A server that is not listening yet. */
export function createClickHouseServer(engine: Engine, options: HttpOptions): Server {
  const budget: BodyBudget = {
    maxBodyBytes: options.maxBodyBytes,
    freeBytes: options.maxBodyBytes * BODIES_IN_FLIGHT_MAX,
  };
  const limits = { maxHeaderSize: 1024 * 1024, headersTimeout: HEADERS_MS_MAX, requestTimeout: 300_000 };
  const server = createServer({ ...limits, connectionsCheckingInterval: 1_000 }, (request, response) => {
    const queryId = randomUUID();
    answer(engine, options, budget, request, response, queryId).catch((error: unknown) => {
      fail(request, response, engineError(error), queryId);
    });
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  limitConnections(server, { maxConnections: CONNECTIONS_MAX }, { setting: "CLICKHOUSE_HTTP_PORT" });
  return server;
}

async function answer(
  engine: Engine,
  options: HttpOptions,
  budget: BodyBudget,
  request: IncomingMessage,
  response: ServerResponse,
  generatedId: string,
): Promise<void> {
  assertLocalRequest(request.headers, options.host);
  const url = new URL(request.url ?? "/", "http://localhost");
  if (url.pathname === "/ping" || url.pathname === "/replicas_status") return sendText(response, 200, "Ok.\n");
  if (url.pathname === "/play") return sendText(response, 200, PLAY);
  if (url.pathname !== "/") throw endpointError(36, `There is no handle ${url.pathname}. Use / or /ping.`, 404);
  const method = request.method ?? "";
  if (!["GET", "HEAD", "POST"].includes(method)) {
    response.setHeader("Allow", "GET, HEAD, POST");
    throw endpointError(36, `Method ${method} is not allowed.`, 405);
  }
  assertCredentials(request.headers, url.searchParams, options);
  const { read, release } = await readRequest(request, url, budget);
  try {
    if (read.query.length === 0 && method !== "POST") return sendText(response, 200, "Ok.\n");
    const queryId = read.queryId ?? generatedId;
    if (/[^\x20-\x7e]/.test(queryId)) throw endpointError(36, "A query_id must be printable ASCII.");
    response.setHeader("X-ClickHouse-Query-Id", queryId);
    const statement = await readStatement(read.query);
    const readOnly = method !== "POST";
    if (readOnly && !READ_KEYWORDS.has(statement.keyword)) {
      throw endpointError(164, `Cannot execute ${statement.keyword} in readonly mode: GET only reads, use POST.`);
    }
    const { database, settings, params } = read;
    if (options.owned) assertUnowned(options.owned, request.headers, { statement, database, params });
    const format = formatOf(statement, read.format);
    const signal = gone(request, response);
    const told = createResultResponse(request, response, { ...read, format: statement.format ?? format, signal });
    const deliver = read.isWhole ? undefined : told.deliver;
    await told.finish(await engine.run({ statement, database, format, settings, params, readOnly, deliver, signal }));
  } finally {
    release();
  }
}

function formatOf(statement: Statement, wanted: string | undefined): string {
  const format = wanted ?? "TabSeparated";
  if (!/^\w+$/.test(format)) throw endpointError(73, `Unknown format ${format}.`);
  return statement.format ?? format;
}

/** Fires when the connection closes before the answer was sent. */
function gone(request: IncomingMessage, response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  const onClose = () => {
    if (!response.writableFinished) controller.abort();
  };
  if (request.socket.destroyed) controller.abort();
  else response.once("close", onClose);
  return controller.signal;
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "Content-Type": "text/html; charset=UTF-8" }).end(text);
}

function fail(request: IncomingMessage, response: ServerResponse, error: ClickHouseError, queryId: string): void {
  if (response.headersSent || response.destroyed) {
    // As a server does: the reason behind the rows where they are text, and an answer that visibly has no end.
    if (isPlainText(response)) response.write(`\n${error.message}\n`, () => response.destroy());
    else response.destroy();
    return;
  }
  if (!response.hasHeader("X-ClickHouse-Query-Id")) response.setHeader("X-ClickHouse-Query-Id", queryId);
  response.setHeader("X-ClickHouse-Exception-Code", String(error.code));
  if (error.status === 401) response.setHeader("WWW-Authenticate", 'Basic realm="ClickHouse server HTTP API"');
  if (error.status === 503) response.setHeader("Retry-After", "1");
  if (!request.complete) {
    // The rest of the body is not read, so the connection cannot carry another request.
    response.shouldKeepAlive = false;
    response.once("finish", () => request.socket.destroySoon());
  }
  sendText(response, error.status, `${error.message}\n`);
}

function isPlainText(response: ServerResponse): boolean {
  const type = String(response.getHeader("Content-Type"));
  return !response.destroyed && !response.hasHeader("Content-Encoding") && !type.startsWith("application/octet-stream");
}
