// The messages of an RPC's body as they arrive, each whole and looked at before the library makes objects of it.

/** Throws what the call is refused with. */
export type MessageCheck = (message: Buffer) => void;

export interface WholeMessages {
  /** A body of frames (a byte of flags, four of length, the message), as gRPC and streams have them; else one message. */
  framed: boolean;
  /** What is sent is encoded, and is looked at once it is decoded; of frames each says so itself. */
  encoded: boolean;
  maxBytes: number;
  check: MessageCheck;
}

const HEAD_BYTES = 5;

/** Yields the body's bytes unchanged. What is too large, or ends early, is left for the library to refuse. */
export function wholeMessages(body: AsyncIterable<Uint8Array>, options: WholeMessages): AsyncIterable<Uint8Array> {
  return options.framed ? wholeFrames(body, options) : wholeBody(body, options);
}

async function* wholeBody(
  body: AsyncIterable<Uint8Array>,
  { encoded, maxBytes, check }: WholeMessages,
): AsyncIterable<Uint8Array> {
  if (encoded) return yield* body;
  const pieces = createPieces();
  for await (const chunk of body) {
    pieces.add(chunk);
    if (pieces.length <= maxBytes) continue;
    yield pieces.take();
    return yield* body;
  }
  const message = pieces.take();
  check(message);
  yield message;
}

async function* wholeFrames(
  body: AsyncIterable<Uint8Array>,
  { maxBytes, check }: WholeMessages,
): AsyncIterable<Uint8Array> {
  const pieces = createPieces();
  let wanted = HEAD_BYTES;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; ) {
      const end = Math.min(chunk.length, at + wanted - pieces.length);
      pieces.add(chunk.subarray(at, end));
      at = end;
      if (pieces.length < wanted) break;
      const frame = pieces.take();
      const length = frame.readUInt32BE(1);
      if (length > maxBytes) {
        yield frame;
        yield chunk.subarray(at);
        return yield* body;
      }
      if (frame.length < HEAD_BYTES + length) {
        pieces.add(frame);
        wanted = HEAD_BYTES + length;
        continue;
      }
      wanted = HEAD_BYTES;
      // Any flag: it is encoded, or no message.
      if (frame[0] === 0) check(frame.subarray(HEAD_BYTES));
      yield frame;
    }
  }
  if (pieces.length > 0) yield pieces.take();
}

function createPieces() {
  let pieces: Uint8Array[] = [];
  let length = 0;
  return {
    get length() {
      return length;
    },
    add(piece: Uint8Array) {
      pieces.push(piece);
      length += piece.length;
    },
    take(): Buffer {
      const [first] = pieces;
      const isOne = pieces.length === 1 && first !== undefined;
      const all = isOne ? Buffer.from(first.buffer, first.byteOffset, first.length) : Buffer.concat(pieces, length);
      [pieces, length] = [[], 0];
      return all;
    },
  };
}
