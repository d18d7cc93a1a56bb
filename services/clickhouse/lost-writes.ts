// What the engine does not tell: chdb's build of ClickHouse goes on when a write to a file fails, because the disk is full or
// broken. An insert is then answered as stored with an empty file in its part, which the engine finds when it reads that
// file, or when it starts again and puts the part aside; a definition written so is one the engine cannot start with. So
// room is kept free for it, and the failures, which it counts, are asked for before a statement is answered.
import { statfsSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { endpointError } from "./errors.ts";
import type { Statement } from "./statement.ts";

const RESERVED_BYTES_MAX = 64 * 1024 * 1024;
const RESERVED_SHARE_MAX = 1 / 16;
/** What ClickHouse wants for the smallest part. */
const ROOM_BYTES_MIN = 1024 * 1024;

const WATCH_INTERVAL_MS = 1_000;

const WRITES_DEFINITION = new Set(["CREATE", "ALTER", "ATTACH", "DETACH", "RENAME", "EXCHANGE", "UPDATE", "DELETE"]);

const FAILED_WRITES = "SELECT value FROM system.events WHERE event = 'WriteBufferFromFileDescriptorWriteFailed'";

/** Bytes of the disk on which the engine begins no insert and no merge, so that what is under way has room beside the log. */
export function reservedBytes(directory: string): number {
  const { blocks, bsize } = statfsSync(directory);
  return Math.floor(Math.min(RESERVED_BYTES_MAX, blocks * bsize * RESERVED_SHARE_MAX));
}

export function hasRoom(directory: string): boolean {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize >= ROOM_BYTES_MIN;
}

/** Throws NOT_ENOUGH_SPACE, before the statement has run. */
export function assertRoom({ keyword }: Pick<Statement, "keyword">, directory: string): void {
  if (!WRITES_DEFINITION.has(keyword) || hasRoom(directory)) return;
  throw endpointError(
    243,
    `There is no room to write what ${keyword} changes: free space on the disk of ${directory}.`,
  );
}

export interface WatchedWrites {
  /** Rejects, after `onLost`, when a write has failed since the engine was opened: nothing it did may be acknowledged. */
  assertNoneLost(): Promise<void>;
}

interface WatchOptions {
  /** Results are in the format JSON. */
  ask(sql: string): Promise<{ json<T>(): T }>;
  onLost(): void;
  /** Fires when the engine closes. */
  signal: AbortSignal;
}

/** Looks by itself too, since merges write while nobody waits. What they merged stays on disk for minutes after. */
export function watchWrites({ ask, onLost, signal }: WatchOptions): WatchedWrites {
  async function assertNoneLost(): Promise<void> {
    const { data } = (await ask(FAILED_WRITES)).json<{ data: { value: string }[] }>();
    if (data.length === 0) return;
    onLost();
    throw endpointError(210, "A file could not be written: the engine starts again. Try again shortly.");
  }

  async function watch(): Promise<void> {
    while (!signal.aborted) {
      // What cannot be asked now is asked again.
      await assertNoneLost().catch(() => undefined);
      await setTimeout(WATCH_INTERVAL_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
  void watch();
  return { assertNoneLost };
}
