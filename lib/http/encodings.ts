// Content encodings of request bodies and RPC messages: gzip, deflate, br, zstd. The caller is shown each piece as it
// comes out and may stop there, so that a few bytes which unpack to many never take more memory than there is room for.
import { promisify } from "node:util";
import zlib from "node:zlib";

/** Decodes to more than the bound allows. */
export class DecodedTooLargeError extends Error {
  override readonly name = "DecodedTooLargeError";
}

/** The bytes are not what the encoding says, or end early. */
export class UndecodableError extends Error {
  override readonly name = "UndecodableError";
}

type Decoder = zlib.Gunzip | zlib.Inflate | zlib.InflateRaw | zlib.BrotliDecompress | zlib.ZstdDecompress;

interface Encoding {
  encode(bytes: Uint8Array): Promise<Buffer>;
  /** `first` is the first byte of what is to be decoded. */
  createDecoder(first: number): Decoder;
}

/** The largest window that a decoder for HTTP has to have (RFC 9659); a frame may ask for 2 GB. */
const ZSTD_WINDOW_LOG_MAX = 23;

const ENCODINGS: Record<string, Encoding> = {
  gzip: { encode: promisify<Uint8Array, Buffer>(zlib.gzip), createDecoder: () => zlib.createGunzip() },
  // "deflate" means the zlib format, but raw deflate is common in the wild; the low nibble of zlib's first byte is 8.
  deflate: {
    encode: promisify<Uint8Array, Buffer>(zlib.deflate),
    createDecoder: (first) => (first % 16 === 8 ? zlib.createInflate() : zlib.createInflateRaw()),
  },
  br: {
    encode: promisify<Uint8Array, Buffer>(zlib.brotliCompress),
    createDecoder: () => zlib.createBrotliDecompress(),
  },
  zstd: {
    encode: promisify<Uint8Array, Buffer>(zlib.zstdCompress),
    createDecoder: () =>
      zlib.createZstdDecompress({ params: { [zlib.constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX } }),
  },
};

export const ENCODING_NAMES = Object.keys(ENCODINGS);

const CODINGS_MAX = 3;
const NAMES_MAX = 8;

/**
 * A content-encoding in one spelling: names in lower case, as many as there are in the order in which they were applied,
 * "gzip,br". `identity` is none. Undefined when one of them is unknown.
 */
export function normalEncoding(header: string): string | undefined {
  const given = header
    .toLowerCase()
    .split(",", NAMES_MAX + 1)
    .map((name) => name.trim());
  const names = given.filter((name) => name !== "").map((name) => (name === "x-gzip" ? "gzip" : name));
  if (names.length === 0 || given.length > NAMES_MAX) return undefined;
  const codings = names.filter((name) => name !== "identity");
  if (codings.length > CODINGS_MAX || !codings.every((name) => Object.hasOwn(ENCODINGS, name))) return undefined;
  return codings.length === 0 ? "identity" : codings.join(",");
}

/**
 * Decodes what `source` yields, by what `normalEncoding` says, as `decodeOne` does. `onInner` is told of the bytes that come
 * out between two decodings.
 */
export async function decodeTo(
  encoding: string,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  take: (piece: Buffer) => void,
  onInner: (bytes: number) => void = () => {},
): Promise<void> {
  const [first = "", ...others] = encoding.split(",");
  let pieces = source;
  for (const name of others.reverse()) pieces = decoded(name, pieces, onInner);
  await decodeOne(first, pieces, take);
}

/** Decodes what `source` yields, chunk by chunk. */
async function* decoded(
  name: string,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  onPiece: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let pieces: Buffer[] = [];
  const take = (piece: Buffer) => {
    onPiece(piece.length);
    pieces.push(piece);
  };
  let decoding: Decoding | undefined;
  try {
    for await (const chunk of source) {
      if (chunk.length === 0) continue;
      decoding ??= startDecoding(name, take);
      await decoding.write(chunk);
      yield* pieces;
      pieces = [];
    }
    await decoding?.end();
    yield* pieces;
  } finally {
    decoding?.stop();
  }
}

/** Each costs a decoder: a frame is eight bytes at least. */
const FRAMES_MAX = 64;

function createDecoder(name: string, chunk: Uint8Array): Decoder {
  const encoding = ENCODINGS[name];
  if (!encoding) throw new UndecodableError(`unknown content encoding ${name}`);
  return encoding.createDecoder(chunk[0] as number);
}

/**
 * Decodes what `source` yields and hands each piece to `take` as it comes out; nothing comes of nothing. What `take` or
 * `source` throws ends it at once. Throws UndecodableError.
 */
async function decodeOne(
  name: string,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  take: (piece: Buffer) => void,
): Promise<void> {
  let decoding: Decoding | undefined;
  try {
    for await (const chunk of source) {
      if (chunk.length === 0) continue;
      decoding ??= startDecoding(name, take);
      await decoding.write(chunk);
    }
    await decoding?.end();
  } finally {
    decoding?.stop();
  }
}

interface Decoding {
  /** Resolves when everything that the chunk decodes to was taken. */
  write(chunk: Uint8Array): Promise<void>;
  end(): Promise<void>;
  stop(): void;
}

function startDecoding(name: string, take: (piece: Buffer) => void): Decoding {
  let frame: Frame | undefined;
  let frames = 0;
  return {
    async write(chunk) {
      for (let rest = chunk; rest.length > 0; ) {
        if (frame?.isOver) rest = behindFrame(name, rest, frames);
        if (rest.length === 0) return;
        if (!frame || frame.isOver) {
          frame?.stop();
          frame = startFrame(name, createDecoder(name, rest), take);
          frames++;
        }
        const left = await frame.write(rest);
        rest = rest.subarray(rest.length - left);
      }
    },
    end: async () => await frame?.end(),
    stop: () => frame?.stop(),
  };
}

/**
 * What is to be decoded of the bytes behind a frame's end. Of zstd they are further frames (RFC 8878), and gzip may be
 * padded with zeros; gzip's further members are its decoder's affair. Throws UndecodableError for anything else.
 */
function behindFrame(name: string, rest: Uint8Array, frames: number): Uint8Array {
  if (name === "gzip" && rest.every((byte) => byte === 0)) return rest.subarray(rest.length);
  if (name !== "zstd") throw new UndecodableError(`goes on behind the end of its ${name} data`);
  if (frames === FRAMES_MAX) throw new UndecodableError(`has more than ${FRAMES_MAX} zstd frames`);
  return rest;
}

interface Frame {
  /** It has ended, and takes no more. */
  readonly isOver: boolean;
  /** Resolves, when everything that the chunk decodes to was taken, with how many bytes of it are behind the frame's end. */
  write(chunk: Uint8Array): Promise<number>;
  end(): Promise<void>;
  stop(): void;
}

function startFrame(name: string, decoder: Decoder, take: (piece: Buffer) => void): Frame {
  let failure: { error: unknown } | undefined;
  let given = 0;
  let isOver = false;
  const fail = (error: unknown) => {
    failure ??= { error };
    decoder.destroy();
  };
  const ended = new Promise<void>((resolve) => decoder.once("end", resolve).once("close", resolve));
  decoder.on("error", (cause) => {
    fail(new UndecodableError(`is not complete ${name} data: ${cause.message}`, { cause }));
  });
  decoder.on("data", (piece: Buffer) => {
    if (failure) return;
    try {
      take(piece);
    } catch (error) {
      fail(error);
    }
  });
  const check = () => {
    if (failure) throw failure.error;
  };
  return {
    get isOver() {
      return isOver;
    },
    async write(chunk) {
      given += chunk.length;
      await Promise.race([new Promise<void>((resolve) => decoder.write(chunk, () => resolve())), ended]);
      check();
      const left = given - decoder.bytesWritten;
      if (left > 0) {
        isOver = true;
        await ended;
        check();
      }
      return left;
    },
    async end() {
      if (isOver) return;
      decoder.end();
      await ended;
      check();
    },
    stop: () => decoder.destroy(),
  };
}

export interface Collector {
  /** Throws DecodedTooLargeError for the piece that takes it over its bound. */
  add(piece: Buffer): void;
  bytes(): Buffer;
}

export function collectUpTo(maxBytes: number): Collector {
  const pieces: Buffer[] = [];
  let length = 0;
  return {
    add(piece) {
      length += piece.length;
      if (length > maxBytes) throw new DecodedTooLargeError(`decodes to more than ${maxBytes} bytes`);
      pieces.push(piece);
    },
    bytes: () => (pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, length)),
  };
}

/** All of it in one piece. Throws DecodedTooLargeError or UndecodableError. */
export async function decode(name: string, bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const collector = collectUpTo(maxBytes);
  await decodeTo(name, [bytes], (piece) => collector.add(piece));
  return collector.bytes();
}

export async function encode(name: string, bytes: Uint8Array): Promise<Uint8Array> {
  return (ENCODINGS[name] as Encoding).encode(bytes);
}
