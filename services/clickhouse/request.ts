// One HTTP request, read the way ClickHouse's HTTP interface reads it: SQL from the URL and the body joined, settings and
// parameters from the URL or a form, bodies in several encodings. Bounded in bytes before and after decompression.
import type { IncomingMessage } from "node:http";
import { decodeTo, ENCODING_NAMES, normalEncoding, UndecodableError } from "#lib/http/encodings.ts";
import { readLz4Frame } from "#lib/process/lz4.ts";
import { type BlockMethod, blockMethodOf, decompressBlocks } from "./compressed-blocks.ts";
import { endpointError } from "./errors.ts";

export interface ClickHouseRequest {
  /** SQL, followed by rows when it is an INSERT that has them. */
  query: Buffer;
  queryId: string | undefined;
  database: string | undefined;
  format: string | undefined;
  settings: Map<string, string>;
  params: Map<string, string>;
  /** By Accept-Encoding. */
  compressResponse: boolean;
  /** In ClickHouse's own blocks, `compress=1`. */
  compressBlocks: BlockMethod | undefined;
  /** What the client reads in the format Native; 0 is the plain form. */
  protocolVersion: number;
  /** The caller wants the end known before the begin: `wait_end_of_query=1`. */
  isWhole: boolean;
}

/** Bytes of request bodies held at one time over all requests; a budget that every body draws on. */
export interface BodyBudget {
  maxBodyBytes: number;
  freeBytes: number;
}

// Known to ClickHouse's HTTP interface and no settings. Sessions are not kept: each request stands alone, and drivers send
// a session id that they do not depend on (guard.ts refuses what would). The credentials were read before.
const IGNORED = new Set([
  "user",
  "password",
  "session_id",
  "session_timeout",
  "session_check",
  "quota_key",
  "wait_end_of_query",
  "buffer_size",
  "stacktrace",
  "http_write_exception_in_output_format",
  "send_progress_in_http_headers",
  "http_headers_progress_interval_ms",
  "enable_http_compression",
  "http_zlib_compression_level",
]);
const NOT_IMPLEMENTED: Record<string, string> = {
  role: "There are no roles here.",
};

/** Reads `request` to its end and resolves with it and the function that gives its bytes back to the budget. */
export async function readRequest(
  request: IncomingMessage,
  url: URL,
  budget: BodyBudget,
): Promise<{ read: ClickHouseRequest; release: () => void }> {
  const fields = new Map(url.searchParams);
  const { body, release } = await readBody(request, budget, isOn(fields.get("decompress")));
  try {
    let rest = body;
    const type = request.headers["content-type"] ?? "";
    if (type.toLowerCase().startsWith("multipart/form-data") && body.length > 0) {
      for (const [name, value] of await readForm(body, type)) fields.set(name, value);
      rest = Buffer.alloc(0);
    }
    return { read: interpret(fields, rest, request.headers), release };
  } catch (error) {
    release();
    throw error;
  }
}

function interpret(
  fields: ReadonlyMap<string, string>,
  body: Buffer,
  headers: IncomingMessage["headers"],
): ClickHouseRequest {
  if (isOn(fields.get("session_check"))) {
    throw endpointError(372, "Session not found: none is kept from one request to the next.");
  }
  const settings = new Map<string, string>();
  const params = new Map<string, string>();
  const own = new Set(["query", "query_id", "database", "default_format"]);
  for (const name of ["compress", "decompress", "client_protocol_version"]) own.add(name);
  for (const [name, value] of fields) {
    if (own.has(name) || IGNORED.has(name)) continue;
    const refusal = NOT_IMPLEMENTED[name];
    if (refusal !== undefined) {
      if (value !== "0" && value !== "") throw endpointError(48, `${name}=${value} is not implemented. ${refusal}`);
    } else if (name.startsWith("param_")) params.set(name.slice("param_".length), value);
    else settings.set(name, value);
  }
  const protocolVersion = Number.parseInt(fields.get("client_protocol_version") ?? "0", 10) || 0;
  // What a JSON column looks like depends on the version, too; as text every client reads it.
  const asText = "output_format_native_write_json_as_string";
  if (protocolVersion > 0 && !settings.has(asText)) settings.set(asText, "1");
  const inUrl = Buffer.from(fields.get("query") ?? "");
  const query = inUrl.length > 0 && body.length > 0 ? Buffer.concat([inUrl, Buffer.from("\n"), body]) : body;
  return {
    query: query.length > 0 ? query : inUrl,
    queryId: fields.get("query_id") || undefined,
    database: fields.get("database") || header(headers["x-clickhouse-database"]),
    format: fields.get("default_format") || header(headers["x-clickhouse-format"]),
    settings,
    params,
    compressResponse: isOn(fields.get("enable_http_compression")),
    compressBlocks: isOn(fields.get("compress")) ? blockMethodOf(fields.get("network_compression_method")) : undefined,
    protocolVersion,
    isWhole: isOn(fields.get("wait_end_of_query")),
  };
}

function isOn(value: string | undefined): boolean {
  return value === "1" || value === "true";
}

async function readBody(
  request: IncomingMessage,
  budget: BodyBudget,
  inBlocks: boolean,
): Promise<{ body: Buffer; release: () => void }> {
  const encoding = encodingOf(request);
  if (Number(request.headers["content-length"] ?? 0) > budget.maxBodyBytes) throw tooLarge(budget);
  let taken = 0;
  const release = () => {
    budget.freeBytes += taken;
    taken = 0;
  };
  const chunks: Buffer[] = [];
  const take = (chunk: Buffer) => {
    if (taken + chunk.length > budget.maxBodyBytes) throw tooLarge(budget);
    if (chunk.length > budget.freeBytes) throw endpointError(202, "Too many bytes in requests. Try again shortly.");
    budget.freeBytes -= chunk.length;
    taken += chunk.length;
    chunks.push(chunk);
  };
  // A refusal has to reach the caller, so giving up on the body leaves the connection open.
  const source: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  try {
    if (encoding === "identity" || encoding === "lz4") for await (const chunk of source) take(chunk);
    else await decodeTo(encoding, source, take);
    if (encoding === "lz4") take(unfoldLz4(Buffer.concat(chunks.splice(0)), budget.maxBodyBytes));
    if (inBlocks) await decompressBlocks(Buffer.concat(chunks.splice(0)), take, budget.maxBodyBytes);
  } catch (error) {
    release();
    throw error instanceof UndecodableError ? endpointError(354, `The body is not valid ${encoding}.`, 400) : error;
  }
  return { body: Buffer.concat(chunks), release };
}

function encodingOf({ headers }: IncomingMessage): string {
  const given = (headers["content-encoding"] ?? "identity").trim().toLowerCase();
  const encoding = given === "lz4" ? given : normalEncoding(given);
  if (encoding !== undefined && !encoding.includes(",")) return encoding;
  const known = [...ENCODING_NAMES, "lz4"].join(", ");
  throw endpointError(48, `Content-Encoding ${given} is not implemented. Use one of: ${known}.`, 415);
}

function unfoldLz4(frame: Buffer, maxBytes: number): Buffer {
  try {
    return readLz4Frame(frame, maxBytes);
  } catch (error) {
    throw endpointError(
      354,
      `The body is not valid lz4: ${error instanceof Error ? error.message : String(error)}.`,
      400,
    );
  }
}

async function readForm(body: Buffer, type: string): Promise<[string, string][]> {
  let form: FormData;
  try {
    form = await new Response(new Uint8Array(body), { headers: { "content-type": type } }).formData();
  } catch {
    throw endpointError(36, "The body is not valid multipart/form-data.");
  }
  return [...form].map(([name, value]) => {
    if (typeof value !== "string") throw endpointError(48, `The external table ${name} is not implemented.`);
    return [name, value];
  });
}

function tooLarge(budget: BodyBudget) {
  return endpointError(307, `The request body is larger than ${budget.maxBodyBytes} bytes. Send smaller inserts.`);
}

function header(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
