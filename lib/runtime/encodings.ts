// Content encodings of request bodies and RPC messages: gzip, deflate, br, zstd, all with a bound on the decoded size.
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

type Transform = (bytes: Uint8Array, options?: { maxOutputLength: number }) => Promise<Buffer>;

interface Encoding {
  encode: Transform;
  decode: Transform;
}

const inflate: Transform = promisify(zlib.inflate);
const inflateRaw: Transform = promisify(zlib.inflateRaw);

const ENCODINGS: Record<string, Encoding> = {
  gzip: { encode: promisify(zlib.gzip), decode: promisify(zlib.gunzip) },
  // "deflate" means the zlib format, but raw deflate is common in the wild; the low nibble of zlib's first byte is 8.
  deflate: {
    encode: promisify(zlib.deflate),
    decode: (bytes, options) => ((bytes[0] ?? 0) % 16 === 8 ? inflate : inflateRaw)(bytes, options),
  },
  br: { encode: promisify(zlib.brotliCompress), decode: promisify(zlib.brotliDecompress) },
  zstd: { encode: promisify(zlib.zstdCompress), decode: promisify(zlib.zstdDecompress) },
};

export const ENCODING_NAMES = Object.keys(ENCODINGS);

export function isEncoding(name: string): boolean {
  return Object.hasOwn(ENCODINGS, name);
}

/** Empty in, empty out. Throws DecodedTooLargeError or UndecodableError. */
export async function decode(name: string, bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const encoding = ENCODINGS[name];
  if (!encoding) throw new UndecodableError(`unknown content encoding ${name}`);
  if (bytes.length === 0) return bytes;
  try {
    return await encoding.decode(bytes, { maxOutputLength: maxBytes });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ERR_BUFFER_TOO_LARGE") {
      throw new DecodedTooLargeError(`decodes to more than ${maxBytes} bytes`, { cause: error });
    }
    throw new UndecodableError(`is no complete ${name} data: ${message}`, { cause: error });
  }
}

export async function encode(name: string, bytes: Uint8Array): Promise<Uint8Array> {
  return (ENCODINGS[name] as Encoding).encode(bytes);
}
