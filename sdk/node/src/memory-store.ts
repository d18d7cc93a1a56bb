// The bounded queue in memory. Events lie in it as the batches in which they will leave.
import type { Batch, BatchBounds, EventStore } from "./event-store.ts";

export interface MemoryStoreOptions extends BatchBounds {
  /** Those in flight included. */
  maxEvents: number;
  maxBytes: number;
}

interface Chunk {
  buffer: Buffer;
  used: number;
  ends: number[];
}

const CHUNK_BYTES_MIN = 4 * 1024;

export function createMemoryStore({ batchEvents, batchBytes, maxEvents, maxBytes }: MemoryStoreOptions): EventStore {
  const chunks: Chunk[] = [];
  let waiting = 0;
  let [heldEvents, heldBytes] = [0, 0];

  function chunkFor(bytes: number): Chunk {
    const last = chunks.at(-1);
    const fits = last && last.ends.length < batchEvents && last.used + bytes <= batchBytes;
    if (fits) {
      grow(last, last.used + bytes);
      return last;
    }
    // For batches of one event no more than the event, or a full queue would take many times its bound.
    const size = Math.max(bytes, Math.min(CHUNK_BYTES_MIN, bytes * batchEvents));
    const chunk = { buffer: Buffer.allocUnsafeSlow(size), used: 0, ends: [] };
    chunks.push(chunk);
    return chunk;
  }

  function grow(chunk: Chunk, bytes: number): void {
    if (bytes <= chunk.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, Math.min(batchBytes, chunk.buffer.length * 2)));
    chunk.buffer.copy(larger, 0, 0, chunk.used);
    chunk.buffer = larger;
  }

  return {
    push(frame) {
      if (heldEvents >= maxEvents || heldBytes + frame.length > maxBytes) return "full";
      const chunk = chunkFor(frame.length);
      chunk.buffer.set(frame, chunk.used);
      chunk.used += frame.length;
      chunk.ends.push(chunk.used);
      waiting += 1;
      heldEvents += 1;
      heldBytes += frame.length;
      return "kept";
    },
    get waiting() {
      return waiting;
    },
    get hasFullBatch() {
      const [first] = chunks;
      return chunks.length > 1 || (first !== undefined && first.ends.length >= batchEvents);
    },
    take(): Batch | undefined {
      const chunk = chunks.shift();
      if (!chunk) return undefined;
      waiting -= chunk.ends.length;
      return {
        frames: { bytes: chunk.buffer.subarray(0, chunk.used), ends: chunk.ends },
        checkStored: false,
        settle() {
          heldEvents -= chunk.ends.length;
          heldBytes -= chunk.used;
        },
      };
    },
    recovered: 0,
    isDurable: false,
    close() {
      chunks.length = 0;
    },
  };
}
