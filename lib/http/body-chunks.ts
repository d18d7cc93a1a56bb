// A request's body as it arrives, for as long as its sender goes on sending.
import type { HttpRequest } from "./message.ts";

/** The sender has stopped in the middle, or takes longer than a body may. */
export class BodyStalledError extends Error {
  override readonly name = "BodyStalledError";
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
    reject(new BodyStalledError("the body stood still, or took too long to arrive; send the request again"));
  }, timeoutMs);
  work.then(resolve, reject);
  return promise.finally(() => clearTimeout(timer));
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
