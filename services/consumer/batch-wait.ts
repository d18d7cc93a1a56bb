// How long a batch waits for more records: 100 ms while ClickHouse is idle, longer the busier it is. It decides where
// ranges are cut, never what becomes of a record, and a range is announced by its marker before it is inserted: so a
// replay needs to know nothing of it.
import type { BatchWait } from "#lib/ledger/marker.ts";
import type { Clock } from "#lib/process/clock.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { isBackPressure } from "#lib/warehouse/warehouse-errors.ts";

/** What was measured of ClickHouse lately. */
export interface Load {
  /** Time in which some insert was under way, by the number of inserts, milliseconds; 0 before the first. */
  insertMs: number;
  /** Partitions of this process that inserted lately. */
  partitions: number;
  /** Active parts of the fullest partition of a table, as a share of those at which ClickHouse slows inserts down. */
  partsShare: number | undefined;
  /** Since an insert was refused because ClickHouse had too much to do, milliseconds. */
  sinceBusyMs: number;
}

/** Why the wait is what it is; the words of the metric's label. */
export const WAIT_REASONS = ["idle", "inserts", "parts", "busy"] as const;
type Reason = (typeof WAIT_REASONS)[number];

export const IDLE_WAIT_MS = 100;
/** A share of parts from which on the wait grows, and at which it is as long as it may be. */
const PARTS_SHARE_LOW = 0.15;
const PARTS_SHARE_HIGH = 0.5;
/** After a refusal the wait is as long as it may be, and falls back within this time. */
const BUSY_MS = 30_000;
/** Of the time, with an insert under way. The rest is for merges and questions. */
const INSERTING_SHARE = 0.7;
/** Inserts are remembered for about so long. */
const MEMORY_MS = 5000;
/** A partition that has not inserted for so long, and for two of the longest waits, is not counted. */
const ACTIVE_MS = 3000;

/**
 * Each cause asks for a wait, and the longest counts. Inserts take turns: were each partition's as long as the time that
 * an insert takes while others run beside it, partitions that insert at the same moment would make each other wait ever
 * longer (batch-wait.test.ts); the time that any of them runs, divided among them, does not depend on how they meet.
 */
export function chooseWait({ insertMs, partitions, partsShare = 0, sinceBusyMs }: Load, msMax: number): BatchWait {
  const partsOver = (partsShare - PARTS_SHARE_LOW) / (PARTS_SHARE_HIGH - PARTS_SHARE_LOW);
  const asked: Record<Reason, number> = {
    idle: IDLE_WAIT_MS,
    inserts: insertMs * (partitions / INSERTING_SHARE - 1),
    parts: msMax * Math.max(0, partsOver),
    busy: msMax * Math.max(0, 1 - sinceBusyMs / BUSY_MS),
  };
  let reason: Reason = "idle";
  for (const each of WAIT_REASONS) if (asked[each] > asked[reason]) reason = each;
  return { ms: Math.min(msMax, Math.round(asked[reason])), reason };
}

export interface BatchWaits {
  /** Of one partition, until it is disposed of. */
  assigned(): PartitionWait;
  /** As in Load; undefined: not known. */
  partsShare: number | undefined;
  /** Whether an insert was sent since the last call. */
  hasInserted(): boolean;
  choose(): BatchWait;
}

export interface PartitionWait extends Disposable {
  choose(): BatchWait;
  insertBegins(): void;
  /** With what it failed with, if it did. */
  insertEnds(error?: unknown): void;
}

/** One for all partitions of a process. `msMax` is FLUSH_INTERVAL. */
export function createBatchWaits(msMax: number, clock: Clock): BatchWaits {
  const activeMs = Math.max(ACTIVE_MS, 2 * msMax);
  /** By partition: when its last insert ended; infinity while one is under way. */
  const insertedAt = new Map<PartitionWait, number>();
  let underWay = 0;
  /** Since when an insert is under way without one having ended. */
  let insertingSince = 0;
  /** Sums that fade. */
  const past = { insertingMs: 0, inserts: 0, at: 0 };
  let busyAt = Number.NEGATIVE_INFINITY;
  let hasInserted = false;

  function choose(): BatchWait {
    const now = clock.monotonicMs();
    let partitions = 0;
    for (const at of insertedAt.values()) if (now - at <= activeMs) partitions++;
    const insertMs = past.inserts > 0 ? past.insertingMs / past.inserts : 0;
    return chooseWait({ insertMs, partitions, partsShare: waits.partsShare, sinceBusyMs: now - busyAt }, msMax);
  }

  function remember(insertingMs: number, now: number): void {
    const kept = Math.exp((past.at - now) / MEMORY_MS);
    past.insertingMs = past.insertingMs * kept + insertingMs;
    past.inserts = past.inserts * kept + 1;
    past.at = now;
    hasInserted = true;
  }

  const waits: BatchWaits = {
    choose,
    partsShare: undefined,
    hasInserted() {
      const had = hasInserted;
      hasInserted = false;
      return had;
    },
    assigned() {
      const own: PartitionWait = {
        choose,
        insertBegins() {
          if (underWay++ === 0) insertingSince = clock.monotonicMs();
          insertedAt.set(own, Number.POSITIVE_INFINITY);
        },
        insertEnds(error) {
          underWay--;
          const now = clock.monotonicMs();
          insertedAt.set(own, now);
          if (isBackPressureError(error)) busyAt = now;
          if (error !== undefined) return;
          remember(now - insertingSince, now);
          insertingSince = now;
        },
        [Symbol.dispose]: () => void insertedAt.delete(own),
      };
      return own;
    },
  };
  return waits;
}

function isBackPressureError(error: unknown): boolean {
  return error instanceof WarehouseError && error.kind === "transient" && isBackPressure(error.code);
}
