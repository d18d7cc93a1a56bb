// One file of the spool: written at its end, read from its start, removed as a whole.
import {
  closeSync,
  fdatasync,
  fsync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { FRAME_BYTES_MAX, RECORD_HEAD_BYTES, type ReadRecords, readRecords, writeRecord } from "./spool-records.ts";

export interface Segment {
  path: string;
  /** Events in it, and how many of them were handed out and have their verdict. */
  count: number;
  taken: number;
  settled: number;
  /** Of its whole records. */
  bytes: number;
  readAt: number;
  /** An earlier process may have sent events of it. */
  readonly isDoubtful: boolean;
  /** Behind its last record is something that cannot be read. */
  isDamaged: boolean;
  /** Open while it is written or read. */
  fd: number | undefined;
  isDirty: boolean;
  isSyncing: boolean;
  /** The directory that names it may not be on the disk yet. */
  isNew: boolean;
}

export const WRITTEN = ".events";
/** A file's name ends so from the first time that events of it are handed out. */
export const BEGUN = ".begun";

const SCAN_BYTES = 1024 * 1024 + RECORD_HEAD_BYTES;
const ONE = Buffer.allocUnsafeSlow(RECORD_HEAD_BYTES + FRAME_BYTES_MAX);

export function createSegment(path: string): Segment {
  // Owner only: events may be personal. Exclusive: no file of the spool is ever written twice.
  const fd = openSync(path, "ax+", 0o600);
  return { ...emptySegment(path), isDoubtful: false, isNew: true, fd };
}

function emptySegment(path: string) {
  return {
    path,
    count: 0,
    taken: 0,
    settled: 0,
    bytes: 0,
    readAt: 0,
    isDamaged: false,
    isDirty: false,
    isSyncing: false,
    isNew: false,
  };
}

/** Counts the records of a file that an earlier process left. */
export function scanSegment(path: string): Segment {
  const fd = openSync(path, "r");
  const segment: Segment = { ...emptySegment(path), isDoubtful: path.endsWith(BEGUN), fd };
  const buffer = Buffer.allocUnsafeSlow(SCAN_BYTES);
  for (;;) {
    const found = readAt(segment, segment.bytes, buffer, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
    segment.count += found.frames.length;
    segment.bytes += found.bytes;
    segment.isDamaged = found.stop === "damaged";
    // A record cut short by the end of the file was being written when the process was killed: it was never accepted.
    if (segment.isDamaged || found.bytes === 0) return segment;
  }
}

/** Throws when it cannot be written; nothing may be appended then. */
export function append(segment: Segment, frame: Uint8Array): void {
  const length = writeRecord(ONE, frame);
  if (writeSync(segment.fd as number, ONE, 0, length) !== length)
    throw new Error("the disk took a part of an event only");
  segment.bytes += length;
  segment.count += 1;
  segment.isDirty = true;
}

/** After a failed append: what was written of the event is taken off again. */
export function cutBack(segment: Segment): void {
  ftruncateSync(segment.fd as number, segment.bytes);
}

/**
 * To be called before the first events of it are sent: the next process then knows which files it must have looked up among
 * the stored events. Of a long outage those are a few, and looking up is dear. A power cut must not take the name back once
 * events are on their way.
 */
export function markBegun(segment: Segment): void {
  if (segment.path.endsWith(BEGUN)) return;
  const path = `${segment.path.slice(0, -WRITTEN.length)}${BEGUN}`;
  renameSync(segment.path, path);
  segment.path = path;
  segment.isNew = false;
  const directory = openDirectory(path);
  if (directory === undefined) return;
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** The next events, at most as many as given; "damaged" when they are not what was written. */
export function readNext(segment: Segment, buffer: Buffer, maxFrames: number, maxBytes: number): ReadRecords {
  segment.fd ??= openSync(segment.path, "r");
  const found = readAt(segment, segment.readAt, buffer, Math.min(maxFrames, segment.count - segment.taken), maxBytes);
  segment.readAt += found.bytes;
  segment.taken += found.frames.length;
  return found;
}

function readAt(segment: Segment, from: number, buffer: Buffer, maxFrames: number, maxBytes: number): ReadRecords {
  let filled = 0;
  while (filled < buffer.length) {
    const got = readSync(segment.fd as number, buffer, filled, buffer.length - filled, from + filled);
    if (got === 0) break;
    filled += got;
  }
  return readRecords(buffer.subarray(0, filled), maxFrames, maxBytes);
}

/** The file stays; it is opened again when it is read. */
export function closeSegment(segment: Segment): void {
  // Its number could be another file's by the time the system syncs it.
  if (segment.fd === undefined || segment.isSyncing) return;
  closeSync(segment.fd);
  segment.fd = undefined;
}

/** A file that could not be read to its end is kept under another name, for anyone who wants to look into it. */
export function removeSegment(segment: Segment): void {
  closeSegment(segment);
  if (segment.isDamaged) renameSync(segment.path, `${segment.path}.damaged`);
  else unlinkSync(segment.path);
}

/** Undefined on Windows, which syncs no directories and keeps names by itself. */
function openDirectory(path: string): number | undefined {
  return process.platform === "win32" ? undefined : openSync(dirname(path), "r");
}

function syncDirectory(path: string, onDone: (error: Error | null) => void): void {
  let directory: number | undefined;
  try {
    directory = openDirectory(path);
  } catch (error) {
    onDone(error as Error);
    return;
  }
  const opened = directory;
  if (opened === undefined) onDone(null);
  else {
    fsync(opened, (error) => {
      closeSync(opened);
      onDone(error);
    });
  }
}

/** Brings what was written to the disk, and of a new file its name; `onDone` hears why not. */
export function syncSegment(segment: Segment, onDone: (error: Error | null) => void): void {
  if (!segment.isDirty || segment.isSyncing || segment.fd === undefined) return;
  segment.isDirty = false;
  segment.isSyncing = true;
  const done = (error: Error | null) => {
    segment.isSyncing = false;
    onDone(error);
  };
  fdatasync(segment.fd, (error) => {
    if (error || !segment.isNew) {
      done(error);
      return;
    }
    segment.isNew = false;
    syncDirectory(segment.path, done);
  });
}
