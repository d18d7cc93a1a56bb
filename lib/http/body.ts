// A request's body: as it arrives, for as long as its sender goes on sending, or whole and decoded within a bound.
import { decodeTo } from "./encodings.ts";
import type { HttpRequest } from "./message.ts";

export const BODY_LATE = "the body stood still, or took too long to arrive; send the request again";

/** The sender has stopped in the middle, or takes longer than a body may. */
export class BodyStalledError extends Error {
  override readonly name = "BodyStalledError";
}

/** Larger than `maxBytes`, as declared, as sent or decoded. */
export class BodyTooLargeError extends Error {
  override readonly name = "BodyTooLargeError";
  readonly maxBytes: number;

  constructor(maxBytes: number) {
    super(`the body is larger than ${maxBytes} bytes`);
    this.maxBytes = maxBytes;
  }
}

export interface BodyPatience {
  /** Time for the next bytes of a body that has begun. */
  idleMs: number;
  /** Time spent waiting for all bytes of one message of a stream; the listener bounds other requests. */
  messageMs: number;
}

export const BODY_PATIENCE: BodyPatience = { idleMs: 10_000, messageMs: 60_000 };

/**
 * Giving up on it leaves the connection open, so that the answer that says why still gets out. Of a body of `framed`
 * messages each has a time of its own, and between two of them the sender may be silent. Throws BodyStalledError.
 */
export async function* bodyChunks(
  request: HttpRequest,
  { idleMs, messageMs }: BodyPatience,
  framed = false,
): AsyncGenerator<Buffer, void, undefined> {
  const chunks: AsyncIterator<Buffer> = request.iterator({ destroyOnReturn: false });
  const frames = framed ? createFrames() : undefined;
  let waitedMs = 0;
  for (;;) {
    let next: IteratorResult<Buffer>;
    if (frames?.isBetween()) {
      waitedMs = 0;
      next = await chunks.next();
    } else {
      const begun = performance.now();
      next = await within(chunks.next(), frames ? Math.min(idleMs, messageMs - waitedMs) : idleMs);
      waitedMs += performance.now() - begun;
    }
    if (next.done) return;
    if (frames?.count(next.value)) waitedMs = 0;
    yield next.value;
  }
}

async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const timer = setTimeout(() => {
    reject(stalled());
  }, timeoutMs);
  work.then(resolve, reject);
  return promise.finally(() => clearTimeout(timer));
}

function stalled(): BodyStalledError {
  return new BodyStalledError(BODY_LATE);
}

const FRAME_HEAD_BYTES = 5;

/** Where a body of gRPC or Connect frames (a byte of flags, four of length, the message) stands. */
function createFrames() {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  let headBytes = 0;
  let left = 0;
  return {
    isBetween: () => headBytes === 0 && left === 0,
    /** True when a frame has ended in the chunk. */
    count(chunk: Buffer): boolean {
      let ended = false;
      for (let at = 0; at < chunk.length; ) {
        if (left === 0) {
          const copied = chunk.copy(head, headBytes, at, at + FRAME_HEAD_BYTES - headBytes);
          at += copied;
          headBytes += copied;
          if (headBytes < FRAME_HEAD_BYTES) return ended;
          left = head.readUInt32BE(1);
        }
        const taken = Math.min(left, chunk.length - at);
        at += taken;
        left -= taken;
        if (left > 0) return ended;
        headBytes = 0;
        ended = true;
      }
      return ended;
    },
  };
}

export interface BodyOptions {
  maxBytes: number;
  /** As `normalEncoding` gives it. */
  encoding?: string;
  /** A body of encoding identity that begins as gzip does is gzip. */
  mayBeGzip?: boolean;
  patience?: BodyPatience;
  /** Called for bytes before they are kept, for encoded ones as well. What it throws ends the reading. */
  onBytes?(bytes: number): void;
  /** Told how much is decoded so far and shown the pieces. What it throws ends the reading. */
  onPiece?(length: number, pieces: readonly Buffer[]): void;
}

/** Throws BodyTooLargeError, BodyStalledError, UndecodableError, and what the options throw. */
export async function readBody(request: HttpRequest, options: BodyOptions): Promise<Buffer> {
  const { maxBytes, encoding = "identity", patience = BODY_PATIENCE } = options;
  if (declaredLength(request) > maxBytes) throw new BodyTooLargeError(maxBytes);
  const pieces: Buffer[] = [];
  let length = 0;
  const add = (piece: Buffer) => {
    length += piece.length;
    pieces.push(piece);
    options.onPiece?.(length, pieces);
    if (length > maxBytes) throw new BodyTooLargeError(maxBytes);
    options.onBytes?.(piece.length);
  };
  if (encoding === "identity" && options.mayBeGzip !== true) {
    await eachChunk(request, patience.idleMs, add);
    return whole(pieces, length);
  }
  let chunks = bodyChunks(request, patience);
  let actual = encoding;
  if (options.mayBeGzip && encoding === "identity") {
    const first = await beginningOf(chunks, GZIP_MAGIC.length);
    if (Buffer.concat(first).subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC)) actual = "gzip";
    chunks = joined(first, chunks);
  }
  if (actual === "identity") for await (const chunk of chunks) add(chunk);
  else {
    let innerLength = 0;
    await decodeTo(actual, encoded(chunks, options), add, (bytes) => {
      innerLength += bytes;
      if (innerLength > maxBytes) throw new BodyTooLargeError(maxBytes);
      options.onBytes?.(bytes);
    });
  }
  return whole(pieces, length);
}

function whole(pieces: readonly Buffer[], length: number): Buffer {
  return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, length);
}

/** As `bodyChunks` of a body without frames, for those who need not wait between chunks: no promise a chunk, and one timer. */
function eachChunk(request: HttpRequest, idleMs: number, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (then: () => void) => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("error", fail).off("aborted", onClose).off("close", onClose);
      then();
    };
    const fail = (error: unknown) => {
      stop(() => reject(error));
      request.pause();
    };
    const onData = (chunk: Buffer) => {
      timer.refresh();
      try {
        take(chunk);
      } catch (error) {
        fail(error);
      }
    };
    const onEnd = () => stop(resolve);
    const onClose = () => fail(new Error("the request ended before its body"));
    const timer = setTimeout(() => fail(stalled()), idleMs);
    request.on("data", onData).on("end", onEnd).on("error", fail).on("aborted", onClose).on("close", onClose);
    if (request.destroyed) onClose();
  });
}

const GZIP_MAGIC = Buffer.of(0x1f, 0x8b);

/** The first chunks, with so many bytes together, or all there are. */
async function beginningOf(chunks: AsyncIterator<Buffer>, bytes: number): Promise<Buffer[]> {
  const first: Buffer[] = [];
  for (let length = 0; length < bytes; ) {
    const next = await chunks.next();
    if (next.done) break;
    first.push(next.value);
    length += next.value.length;
  }
  return first;
}

async function* joined(
  first: readonly Buffer[],
  rest: AsyncGenerator<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  yield* first;
  yield* rest;
}

async function* encoded(chunks: AsyncIterable<Buffer>, options: BodyOptions): AsyncGenerator<Buffer> {
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (length > options.maxBytes) throw new BodyTooLargeError(options.maxBytes);
    options.onBytes?.(chunk.length);
    yield chunk;
  }
}

/** The declared body length, or 0 when the request has none. */
export function declaredLength({ headers }: HttpRequest): number {
  const length = Number(headers["content-length"]);
  return Number.isSafeInteger(length) && length > 0 ? length : 0;
}

/** Media type in lower case without parameters; "" when absent. */
/** The charset that the content type names, in lower case; "utf-8" when it names none. */
export function charsetOf({ headers }: HttpRequest): string {
  const { "content-type": type = "" } = headers;
  if (!type.includes(";")) return "utf-8";
  return /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(type)?.[1]?.toLowerCase() ?? "utf-8";
}

export function mediaType({ headers }: HttpRequest): string {
  return (headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}
