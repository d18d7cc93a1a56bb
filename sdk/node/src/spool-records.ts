// Records of the spool's files: four bytes of length, four of CRC-32, both little-endian, then one event's frame.
import { crc32 } from "node:zlib";

export const RECORD_HEAD_BYTES = 8;
/** Beyond it a length is damage: the encoder makes no event as large. */
export const FRAME_BYTES_MAX = 1024 * 1024;

/** Writes one record at the start of `into`, which has room for it; returns its length. */
export function writeRecord(into: Buffer, frame: Uint8Array): number {
  into.writeUInt32LE(frame.length, 0);
  into.writeUInt32LE(crc32(frame), 4);
  into.set(frame, RECORD_HEAD_BYTES);
  return RECORD_HEAD_BYTES + frame.length;
}

export interface ReadRecords {
  frames: Uint8Array[];
  /** Bytes of the records in `frames`. */
  bytes: number;
  /** Why no record follows: the bytes end, perhaps within one; or they are not a record. */
  stop: "end" | "cut" | "damaged" | "enough";
}

/** Records from the start of `bytes`: at most `maxFrames`, and after the first none beyond `maxBytes` of frames. */
export function readRecords(bytes: Buffer, maxFrames: number, maxBytes: number): ReadRecords {
  const frames: Uint8Array[] = [];
  let [at, taken] = [0, 0];
  const stop = (reason: ReadRecords["stop"]) => ({ frames, bytes: at, stop: reason });
  for (;;) {
    if (at === bytes.length) return stop("end");
    if (bytes.length - at < RECORD_HEAD_BYTES) return stop("cut");
    const length = bytes.readUInt32LE(at);
    // A length of 0 is what a file system leaves after a power cut.
    if (length === 0 || length > FRAME_BYTES_MAX) return stop("damaged");
    if (frames.length >= maxFrames || (frames.length > 0 && taken + length > maxBytes)) return stop("enough");
    const from = at + RECORD_HEAD_BYTES;
    if (bytes.length - from < length) return stop("cut");
    const frame = bytes.subarray(from, from + length);
    if (crc32(frame) !== bytes.readUInt32LE(at + 4)) return stop("damaged");
    frames.push(frame);
    taken += length;
    at = from + length;
  }
}
