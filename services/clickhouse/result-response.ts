// How a result leaves: whole with its length, or piece by piece as the engine makes it; compressed as the caller asked.
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Transform, Writable } from "node:stream";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { compressBlocks } from "./compressed-blocks.ts";
import { endpointError } from "./errors.ts";
import { atProtocolVersion } from "./native-revision.ts";
import type { ClickHouseRequest } from "./request.ts";
import type { StatementResult } from "./sessions.ts";
import type { Deliver } from "./streamed-result.ts";

export interface ResultResponse {
  /** Sends the next piece of a long result. */
  deliver: Deliver;
  /** Sends the result, unless it was delivered, and ends the answer. */
  finish(result: StatementResult): Promise<void>;
}

interface ResultForm extends Pick<ClickHouseRequest, "compressResponse" | "compressBlocks" | "protocolVersion"> {
  format: string;
  /** Fires when the caller is gone. */
  signal: AbortSignal;
}

interface Compressor {
  encoding: string;
  whole(bytes: Uint8Array): Promise<Buffer>;
  stream(): Transform;
}

/** A caller that reads nothing for so long holds one of few places, and loses it. */
const STALLED_MS_MAX = 30_000;

const BROTLI = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } };
const COMPRESSORS: readonly Compressor[] = [
  { encoding: "zstd", whole: promisify(zlib.zstdCompress), stream: () => zlib.createZstdCompress() },
  {
    encoding: "br",
    whole: (bytes) => promisify(zlib.brotliCompress)(bytes, BROTLI),
    stream: () => zlib.createBrotliCompress(BROTLI),
  },
  {
    encoding: "gzip",
    whole: (bytes) => promisify(zlib.gzip)(bytes, { level: 3 }),
    stream: () => zlib.createGzip({ level: 3 }),
  },
  { encoding: "deflate", whole: promisify(zlib.deflate), stream: () => zlib.createDeflate() },
];

export function createResultResponse(
  request: IncomingMessage,
  response: ServerResponse,
  form: ResultForm,
): ResultResponse {
  let sink: Writable | undefined;

  function begin(): Writable {
    setHeaders(response, form.format);
    const compressor = compressorFor(request, form);
    if (!compressor) return response;
    response.setHeader("Content-Encoding", compressor.encoding);
    const stream = compressor.stream();
    stream.pipe(response);
    return stream;
  }

  return {
    async deliver(piece) {
      sink ??= begin();
      for await (const bytes of encoded(piece, form)) {
        if (!sink.write(bytes)) await room(sink, form.signal);
      }
    },
    async finish(result) {
      if (sink) {
        sink.end();
        return;
      }
      setHeaders(response, form.format);
      response.setHeader("X-ClickHouse-Summary", JSON.stringify(summary(result)));
      const bytes = Buffer.concat(await Array.fromAsync(encoded(result.bytes, form)));
      const compressor = bytes.length > 0 ? compressorFor(request, form) : undefined;
      if (compressor) response.setHeader("Content-Encoding", compressor.encoding);
      response.end(compressor ? await compressor.whole(bytes) : bytes);
    },
  };
}

async function* encoded(result: Uint8Array, form: ResultForm): AsyncGenerator<Buffer> {
  const plain = Buffer.from(result.buffer, result.byteOffset, result.byteLength);
  const versioned = form.format === "Native" && form.protocolVersion > 0;
  const bytes = versioned ? atProtocolVersion(plain, form.protocolVersion) : plain;
  if (form.compressBlocks === undefined) yield bytes;
  else yield* compressBlocks(bytes, form.compressBlocks);
}

async function room(sink: Writable, gone: AbortSignal): Promise<void> {
  const stalled = AbortSignal.timeout(STALLED_MS_MAX);
  try {
    await once(sink, "drain", { signal: AbortSignal.any([gone, stalled]) });
  } catch (error) {
    if (!gone.aborted && !stalled.aborted) throw error;
    const why = gone.aborted ? "its caller has gone" : `its caller read nothing for ${STALLED_MS_MAX / 1000} s`;
    throw endpointError(394, `The query was cancelled: ${why}.`);
  }
}

function setHeaders(response: ServerResponse, format: string): void {
  response.setHeader("Content-Type", contentType(format));
  response.setHeader("X-ClickHouse-Format", format);
  response.setHeader("X-ClickHouse-Timezone", "UTC");
}

function compressorFor(request: IncomingMessage, { compressResponse }: ResultForm): Compressor | undefined {
  if (!compressResponse) return undefined;
  const accepted = String(request.headers["accept-encoding"] ?? "")
    .split(",")
    .filter((part) => !/;\s*q=0(\.0*)?\s*$/.test(part))
    .map((part) => part.split(";", 1)[0]?.trim().toLowerCase());
  return COMPRESSORS.find(({ encoding }) => accepted.includes(encoding));
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
