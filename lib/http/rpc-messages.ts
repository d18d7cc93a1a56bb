// The messages of an RPC's body as they arrive, each whole and looked at before the library makes objects of it.

/** Returns what is to be read in the message's place. Throws what the call is refused with. */
export type MessageCheck = (message: Buffer) => Buffer;

export interface WholeMessages {
  /** A body of frames (a byte of flags, four of length, the message), as gRPC and streams have them; else one message. */
  framed: boolean;
  /** What is sent is encoded, and is looked at once it is decoded; of frames each says so itself. */
  encoded: boolean;
  maxBytes: number;
  check: MessageCheck;
}

const HEAD_BYTES = 5;

/** Yields the body message by message, as `check` has them. What is too large, or ends early, is left for the library to refuse. */
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
  yield check(pieces.take());
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
      yield frame[0] === 0 ? framed(check(frame.subarray(HEAD_BYTES))) : frame;
    }
  }
  if (pieces.length > 0) yield pieces.take();
}

function framed(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, HEAD_BYTES);
  return frame;
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
