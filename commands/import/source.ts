// The bytes of an import: from a file or a stream, unpacked, with the line ends that the rows are cut at.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { addAbortSignal, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { type FileIdentity, identify } from "./identity.ts";
import { InputError } from "./records.ts";

export interface Input {
  /** Undefined for what can be read only once. */
  identity: FileIdentity | undefined;
  chunks(): AsyncIterable<Buffer>;
}

export async function openInput(file: string, signal: AbortSignal): Promise<Input> {
  if (file === "-") return { identity: undefined, chunks: () => addAbortSignal(signal, process.stdin) };
  // A pipe under a name, such as a shell's <(…), can be read only once, like standard input.
  if ((await stat(file)).isFIFO()) return { identity: undefined, chunks: () => createReadStream(file, { signal }) };
  const identity = await identify(createReadStream(file, { signal }));
  return { identity, chunks: () => unchanged(file, identity, signal) };
}

/** The content that the ids were derived from, or an InputError at its end. What was appended since is left out. */
async function* unchanged(file: string, identity: FileIdentity, signal: AbortSignal): AsyncGenerator<Buffer> {
  if (identity.bytes === 0) return;
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { end: identity.bytes - 1, highWaterMark: 256 * 1024, signal })) {
    digest.update(chunk);
    yield chunk;
  }
  if (digest.digest("hex") !== identity.sha256) throw new InputError("the file was changed while it was imported");
}

const newline = 0x0a;
const carriageReturn = 0x0d;

/** First bytes of what is no text, with what to do. */
const FOREIGN: readonly { magic: readonly number[]; fault: string }[] = [
  { magic: [0xff, 0xfe], fault: "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8" },
  { magic: [0xfe, 0xff], fault: "the file is UTF-16: convert it with iconv -f UTF-16 -t UTF-8" },
  {
    magic: [0x50, 0x4b, 0x03, 0x04],
    fault: "the file is a zip archive or a spreadsheet: unpack it, or save it as CSV",
  },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], fault: "the file is packed with zstd: unpack it with unzstd" },
  { magic: [0x42, 0x5a, 0x68], fault: "the file is packed with bzip2: unpack it with bunzip2" },
  { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], fault: "the file is packed with xz: unpack it with unxz" },
  { magic: [0x50, 0x41, 0x52, 0x31], fault: "the file is Parquet: export it as CSV or NDJSON" },
];
const GZIP = [0x1f, 0x8b];
const NUL_FAULT = "the file has NUL bytes: it is no text, or it is UTF-16 and iconv -f UTF-16LE -t UTF-8 converts it";

/**
 * The same as UTF-8 text with \n at the ends of lines: gzip is unpacked, and the \r of a file that has no other line ends
 * are changed. Throws InputError for what is known to be something else.
 */
export async function* textOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let endsWithReturn: boolean | undefined;
  for await (const chunk of unpacked(chunks)) {
    if (endsWithReturn === undefined) {
      const fault = FOREIGN.find(({ magic }) => beginsWith(chunk, magic))?.fault;
      if (fault !== undefined) throw new InputError(fault);
      if (chunk.includes(0)) throw new InputError(NUL_FAULT);
      endsWithReturn = chunk.includes(carriageReturn) && !chunk.includes(newline);
    }
    yield endsWithReturn ? (chunk.map((byte) => (byte === carriageReturn ? newline : byte)) as Buffer) : chunk;
  }
}

async function* unpacked(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done) return;
  const all = rejoined(first.value, iterator);
  if (!beginsWith(first.value, GZIP)) {
    yield* all;
    return;
  }
  const source = Readable.from(all, { objectMode: false });
  const gunzip = createGunzip();
  source.once("error", (error) => gunzip.destroy(error));
  try {
    for await (const chunk of source.pipe(gunzip)) yield chunk as Buffer;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!code?.startsWith("Z_")) throw error;
    throw new InputError("the gzip file is damaged or cut off", { cause: error });
  }
}

async function* rejoined(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield first;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

function beginsWith(chunk: Buffer, magic: readonly number[]): boolean {
  return magic.every((byte, index) => chunk[index] === byte);
}

export async function* counted(chunks: AsyncIterable<Buffer>, count: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    count(chunk.length);
    yield chunk;
  }
}
