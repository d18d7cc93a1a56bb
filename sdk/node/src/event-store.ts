// Where captured events wait: memory-store.ts or spool.ts.
import type { Frames } from "./frames.ts";

export interface EventStore {
  /** Takes a copy of the frame. "full": its bound is reached. "failed": it could not be written. */
  push(frame: Uint8Array): "kept" | "full" | "failed";
  /** Events that `take` has not handed out yet. */
  readonly waiting: number;
  /** Whether what waits fills a batch. */
  readonly hasFullBatch: boolean;
  /** The oldest events that wait, at most a batch; how many were lost when they cannot be read; undefined: none now. */
  take(): Batch | { lost: number } | undefined;
  /** Events found at the start, left by an earlier process. */
  readonly recovered: number;
  /** True: what is in it outlives the process. */
  readonly isDurable: boolean;
  /** After it nothing is taken or pushed. */
  close(): void;
}

export interface Batch {
  frames: Frames;
  /** An earlier process may have sent these. */
  checkStored: boolean;
  /** All of them have their verdict. */
  settle(): void;
}

export interface BatchBounds {
  batchEvents: number;
  /** Exceeded by a single event that is larger. */
  batchBytes: number;
}
