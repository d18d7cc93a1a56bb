// The part of ClickHouse's HTTP interface that its clients use, before an engine in this process.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { promisify } from "node:util";
import { brotliCompress, constants, deflate, gzip, zstdCompress } from "node:zlib";
import { limitConnections } from "#lib/http/connection-limits.ts";
import { type AccessOptions, assertCredentials, assertLocalRequest } from "./auth.ts";
import { compressBlocks } from "./compressed-blocks.ts";
import { type ClickHouseError, endpointError, engineError } from "./errors.ts";
import { atProtocolVersion } from "./native-revision.ts";
import { type BodyBudget, type ClickHouseRequest, readRequest } from "./request.ts";
import type { Engine, StatementResult } from "./sessions.ts";
import { READ_KEYWORDS, readStatement, type Statement } from "./statement.ts";

interface HttpOptions extends AccessOptions {
  /** Bound on one body, after decompression. */
  maxBodyBytes: number;
}

const CONNECTIONS_MAX = 512;
const HEADERS_MS_MAX = 10_000;
const BODIES_IN_FLIGHT_MAX = 4;
/** Longer than any client's idle_socket_ttl, so that the client is the one who closes an idle connection. */
const KEEP_ALIVE_MS = 30_000;

const COMPRESSORS: [string, (bytes: Uint8Array) => Promise<Buffer>][] = [
  ["zstd", promisify(zstdCompress)],
  ["br", (bytes) => promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })],
  ["gzip", (bytes) => promisify(gzip)(bytes, { level: 3 })],
  ["deflate", promisify(deflate)],
];

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
    const format = formatOf(statement, read.format);
    const signal = gone(request, response);
    const result = await engine.run({ statement, database, format, settings, params, readOnly, signal });
    await send(request, response, result, statement.format ?? format, read);
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

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  result: StatementResult,
  format: string,
  asked: Pick<ClickHouseRequest, "compressResponse" | "compressBlocks" | "protocolVersion">,
): Promise<void> {
  const plain = Buffer.from(result.bytes.buffer, result.bytes.byteOffset, result.bytes.byteLength);
  const versioned = format === "Native" && asked.protocolVersion > 0;
  let bytes = versioned ? atProtocolVersion(plain, asked.protocolVersion) : plain;
  response.setHeader("Content-Type", contentType(format));
  response.setHeader("X-ClickHouse-Format", format);
  response.setHeader("X-ClickHouse-Timezone", "UTC");
  response.setHeader("X-ClickHouse-Summary", JSON.stringify(summary(result)));
  if (asked.compressBlocks !== undefined) {
    bytes = Buffer.concat(await Array.fromAsync(compressBlocks(bytes, asked.compressBlocks)));
  }
  const accepted = String(request.headers["accept-encoding"] ?? "")
    .split(",")
    .filter((part) => !/;\s*q=0(\.0*)?\s*$/.test(part))
    .map((part) => part.split(";", 1)[0]?.trim().toLowerCase());
  const wanted = asked.compressResponse && bytes.length > 0;
  const compressor = wanted ? COMPRESSORS.find(([name]) => accepted.includes(name)) : undefined;
  if (compressor !== undefined) {
    response.setHeader("Content-Encoding", compressor[0]);
    bytes = await compressor[1](bytes);
  }
  response.end(bytes);
}

function summary(result: StatementResult): Record<string, string> {
  return {
    read_rows: String(result.writtenRows || result.resultRows),
    read_bytes: String(result.writtenBytes || result.resultBytes),
    written_rows: String(result.writtenRows),
    written_bytes: String(result.writtenBytes),
    total_rows_to_read: "0",
    result_rows: String(result.resultRows || result.writtenRows),
    result_bytes: String(result.resultBytes || result.writtenBytes),
    elapsed_ns: String(Math.round(result.elapsedSeconds * 1e9)),
  };
}

function contentType(format: string): string {
  if (/EachRow|NDJSON/.test(format)) return "application/x-ndjson; charset=UTF-8";
  if (format.startsWith("JSON")) return "application/json; charset=UTF-8";
  if (/^(TabSeparated|TSV)/.test(format)) return "text/tab-separated-values; charset=UTF-8";
  if (format.startsWith("CSV")) return "text/csv; charset=UTF-8; header=absent";
  return /^(Native|RowBinary|Parquet|Arrow|ORC|Avro)/.test(format)
    ? "application/octet-stream"
    : "text/plain; charset=UTF-8";
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "Content-Type": "text/html; charset=UTF-8" }).end(text);
}

function fail(request: IncomingMessage, response: ServerResponse, error: ClickHouseError, queryId: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
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
