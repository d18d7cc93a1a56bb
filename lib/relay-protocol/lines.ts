// Bytes of a connection to lines. A line ends with LF; a CR before it belongs to the line.

export interface LineSplitter {
  /**
   * Hands on each line that the chunk completes, without its LF. False: a line is longer than the limit, the connection
   * is of no use any more. The chunk is not kept.
   */
  push(chunk: Uint8Array, onLine: (line: string) => void): boolean;
}

const LF = 0x0a;
const HELD_BYTES_MIN = 256;

/** `maxBytes` bounds a line without its LF, and with it the memory held. */
export function createLineSplitter(maxBytes: number): LineSplitter {
  // One buffer that grows by doubling: a line that arrives byte by byte must not become an array of tiny chunks.
  let held = Buffer.alloc(0);
  let heldBytes = 0;

  function hold(bytes: Buffer): boolean {
    const needed = heldBytes + bytes.length;
    if (needed > maxBytes) return false;
    if (needed > held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(HELD_BYTES_MIN, needed, Math.min(maxBytes, held.length * 2)));
      held.copy(larger, 0, 0, heldBytes);
      held = larger;
    }
    bytes.copy(held, heldBytes);
    heldBytes = needed;
    return true;
  }

  function takeHeld(): string {
    const line = held.toString("utf8", 0, heldBytes);
    held = Buffer.alloc(0);
    heldBytes = 0;
    return line;
  }

  return {
    push(chunk, onLine) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let from = 0;
      for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, from)) {
        if (heldBytes > 0) {
          if (!hold(bytes.subarray(from, end))) return false;
          onLine(takeHeld());
        } else {
          if (end - from > maxBytes) return false;
          onLine(bytes.toString("utf8", from, end));
        }
        from = end + 1;
      }
      return from === bytes.length || hold(bytes.subarray(from));
    },
  };
}
