// The tail: records that the erasure reaches and the consumer has not stored yet. They cannot be erased before they are
// stored, so the second pass waits until nothing of them is to come or under way.
import { setTimeout as pause } from "node:timers/promises";
import type { LogReader } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP } from "#lib/events/topics.ts";
import type { Erasure } from "#lib/identity/erasures.ts";
import { decodeCommit } from "#lib/ledger/marker.ts";
import { PROGRESS_OF_LOG } from "#lib/ledger/progress.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Behind {
  partition: number;
  /** First offset not known to be stored. */
  next: number;
  end: number;
}

/** The consumer does not move; the message says where it stands. */
export class ConsumerBehindError extends Error {
  override readonly name = "ConsumerBehindError";
}

export interface WaitOptions {
  log: LogReader;
  warehouse: Warehouse;
  /** How long the consumer may stand still, milliseconds. */
  patienceMs: number;
  /** Called at every look. */
  onLook(behind: readonly Behind[]): void;
}

const LOOK_MS = 250;

/**
 * Resolves when every record below the ends is stored: a commit beyond an end says that no insert below it is under way.
 * Rejects with ConsumerBehindError, LogUnavailableError or WarehouseError.
 */
export async function consumed(erasure: Erasure, options: WaitOptions): Promise<void> {
  let least = Number.POSITIVE_INFINITY;
  let movedAt = performance.now();
  for (;;) {
    const behind = await behindOf(erasure, options);
    options.onLook(behind);
    if (behind.length === 0) return;
    const left = behind.reduce((sum, { next, end }) => sum + end - next, 0);
    if (left < least) {
      least = left;
      movedAt = performance.now();
    }
    if (performance.now() - movedAt > options.patienceMs) throw standsStill(behind, left, options.patienceMs);
    await pause(Math.min(LOOK_MS, options.patienceMs));
  }
}

async function behindOf({ epoch, topic, ends }: Erasure, { log, warehouse }: WaitOptions): Promise<Behind[]> {
  const commits = await log.committed(topic, CONSUMER_GROUP);
  const noted = await warehouse.query<{ p: number; next: string }>(PROGRESS_OF_LOG, { params: { epoch, topic } });
  const progress = new Map(noted.map(({ p, next }) => [Number(p), Number(next)]));
  const behind: Behind[] = [];
  for (const [partition, end] of ends) {
    const commit = commits.get(partition);
    // A commit of an older incarnation of the log says nothing, and a group's commits may have expired.
    const next = commit && decodeCommit(commit)?.epoch === epoch ? commit.offset : (progress.get(partition) ?? 0);
    if (next < end) behind.push({ partition, next, end });
  }
  return behind;
}

function standsStill(behind: readonly Behind[], left: number, patienceMs: number): ConsumerBehindError {
  const [first] = behind as [Behind, ...Behind[]];
  return new ConsumerBehindError(
    `${left} records that may be the person's are on the log and not stored yet, and no consumer has stored any for ` +
      `${patienceMs / 1000} s (partition ${first.partition} stands at offset ${first.next} of ${first.end}). What is ` +
      "stored of the person is hidden. Start the consumer, then run the command again: it continues from here",
  );
}
