// Captured events on disk until the gateway's verdict: a row of files, written at one end and removed at the other.
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Batch, BatchBounds, EventStore } from "./event-store.ts";
import { joinFrames } from "./frames.ts";
import { lockSpool } from "./spool-lock.ts";
import { FRAME_BYTES_MAX, RECORD_HEAD_BYTES } from "./spool-records.ts";
import {
  append,
  closeSegment,
  createSegment,
  cutBack,
  markBegun,
  readNext,
  removeSegment,
  type Segment,
  scanSegment,
  syncSegment,
  WRITTEN,
} from "./spool-segments.ts";

export interface SpoolOptions extends BatchBounds {
  dir: string;
  /** Of all its files. */
  maxBytes: number;
  onError(error: Error): void;
}

const SEGMENT_BYTES_MAX = 4 * 1024 * 1024;
const SYNC_MS = 1_000;
const NAME = /^\d{10}(?:\.events|\.begun)$/;

/**
 * Opens the directory, making it where there is none. Throws SpoolInUseError when another client has it, or the file
 * system's error. An event that was pushed is in the kernel's hands: a killed process does not lose it. It is on the disk
 * within about a second, which a power cut can lose.
 */
export function openSpool({ dir, maxBytes, batchEvents, batchBytes, onError }: SpoolOptions): EventStore {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const lock = lockSpool(dir);
  const segments: Segment[] = [];
  try {
    segments.push(...recover(dir, onError));
  } catch (error) {
    lock.release();
    throw error;
  }
  const recovered = segments.reduce((sum, { count }) => sum + count, 0);
  const segmentBytes = Math.min(SEGMENT_BYTES_MAX, Math.max(64 * 1024, Math.floor(maxBytes / 8)));
  // Room for the heads of a batch's records, and for one event that is larger than a batch.
  const buffer = Buffer.allocUnsafeSlow(
    Math.max(batchBytes + batchEvents * RECORD_HEAD_BYTES, FRAME_BYTES_MAX + RECORD_HEAD_BYTES),
  );
  let active: Segment | undefined;
  let nextNumber = numberOf(dir) + 1;
  let waiting = recovered;
  let totalBytes = segments.reduce((sum, { bytes }) => sum + bytes, 0);
  let waitingBytes = totalBytes;

  // Its events are the other's to send: nothing of the directory is touched any more.
  lock.onLost((error) => {
    [waiting, waitingBytes, active] = [0, 0, undefined];
    for (const segment of segments.splice(0)) closeSegment(segment);
    onError(error);
  });

  const syncing = setInterval(() => {
    if (!lock.isHeld()) return;
    for (const segment of segments) syncSegment(segment, (error) => synced(segment, error));
  }, SYNC_MS);
  syncing.unref();

  function synced(segment: Segment, error: Error | null): void {
    if (error) onError(error);
    // Removed or sealed meanwhile.
    if (segment !== active) closeSegment(segment);
  }

  function seal(): void {
    const sealed = active;
    active = undefined;
    if (!sealed) return;
    if (sealed.settled < sealed.count) syncSegment(sealed, (error) => synced(sealed, error));
    release(sealed);
  }

  /** Removes a file that nothing is open of any more. */
  function release(segment: Segment): void {
    if (!lock.isHeld() || segment.settled < segment.count || segment === active) return;
    const at = segments.indexOf(segment);
    if (at < 0) return;
    segments.splice(at, 1);
    totalBytes -= segment.bytes;
    attempt(() => removeSegment(segment));
  }

  /** What stays behind is sent again by the next process, under the same ids. */
  function attempt(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      onError(error as Error);
      return false;
    }
  }

  function open(): Segment {
    if (active && active.bytes >= segmentBytes) seal();
    if (active) return active;
    active = createSegment(join(dir, `${String(nextNumber).padStart(10, "0")}${WRITTEN}`));
    nextNumber += 1;
    segments.push(active);
    return active;
  }

  function push(frame: Uint8Array): "kept" | "full" | "failed" {
    if (!lock.isHeld()) return "failed";
    const bytes = RECORD_HEAD_BYTES + frame.length;
    if (totalBytes + bytes > maxBytes) return "full";
    if (!attempt(() => append(open(), frame))) {
      // A half-written event would hide all that follow it in its file: nothing more is written there.
      const failed = active;
      if (failed) attempt(() => cutBack(failed));
      seal();
      return "failed";
    }
    totalBytes += bytes;
    waitingBytes += bytes;
    waiting += 1;
    return "kept";
  }

  function batchOf(segment: Segment, frames: readonly Uint8Array[]): Batch {
    return {
      frames: joinFrames(frames),
      checkStored: segment.isDoubtful,
      settle() {
        segment.settled += frames.length;
        // All is sent: the file goes, and the next event begins another.
        if (segment === active && segment.settled === segment.count) seal();
        else release(segment);
      },
    };
  }

  /** Undefined: not now, as when the process has too many files open. A file that is gone has no events. */
  function read(segment: Segment): { frames: Uint8Array[]; bytes: number } | undefined {
    try {
      return readNext(segment, buffer, batchEvents, batchBytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return { frames: [], bytes: 0 };
      onError(error as Error);
      return undefined;
    }
  }

  /** Gives up on what cannot be read of a file; what was handed out of it goes its way. */
  function abandon(segment: Segment): { lost: number } {
    const lost = segment.count - segment.taken;
    if (segment === active) active = undefined;
    segments.splice(segments.indexOf(segment), 1);
    totalBytes -= segment.bytes;
    waitingBytes -= segment.bytes - segment.readAt;
    waiting -= lost;
    segment.isDamaged = true;
    attempt(() => removeSegment(segment));
    onError(new Error(`${segment.path} is damaged: ${lost} events of it cannot be read; it was set aside`));
    return { lost };
  }

  return {
    push,
    get waiting() {
      return waiting;
    },
    get hasFullBatch() {
      return waiting >= batchEvents || waitingBytes >= batchBytes;
    },
    take() {
      if (!lock.isHeld()) return undefined;
      const segment = segments.find(({ taken, count }) => taken < count);
      if (!segment) return undefined;
      attempt(() => markBegun(segment));
      const found = read(segment);
      if (!found) return undefined;
      if (found.frames.length === 0) return abandon(segment);
      waiting -= found.frames.length;
      waitingBytes -= found.bytes;
      if (segment !== active && segment.taken === segment.count) closeSegment(segment);
      return batchOf(segment, found.frames);
    },
    recovered,
    isDurable: true,
    close() {
      clearInterval(syncing);
      if (active) syncSegment(active, (error) => error && onError(error));
      for (const segment of segments) closeSegment(segment);
      active = undefined;
      lock.release();
    },
  };
}

/** The files of an earlier process, oldest first; those without an event are removed. */
function recover(dir: string, onError: (error: Error) => void): Segment[] {
  const names = readdirSync(dir).filter((name) => NAME.test(name));
  return names.sort().flatMap((name) => {
    const segment = scanSegment(join(dir, name));
    if (segment.isDamaged) {
      onError(new Error(`${segment.path} is damaged: what is behind its first ${segment.count} events cannot be read`));
    }
    closeSegment(segment);
    if (segment.count > 0) return [segment];
    removeSegment(segment);
    return [];
  });
}

/** The highest number in use. */
function numberOf(dir: string): number {
  const numbers = readdirSync(dir).map((name) => Number(/^(\d{10})\./.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers);
}
