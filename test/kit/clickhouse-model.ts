// ClickHouse as batches see it, on virtual time: inserts that share one core, parts that wait for their merge, which share
// another, and the two numbers of parts at which it slows inserts down and refuses them.
import type { Clock } from "#lib/process/clock.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { BatchWaits, PartitionWait } from "../../services/consumer/batch-wait.ts";

const TICK_MS = 10;
const INSERT_MS = 12;
const MERGE_MS = 8;
const MS_PER_ROW_INSERTED = 0.004;
const MS_PER_ROW_MERGED = 0.0005;
/** A merge takes as many parts of about one size. */
const MERGED_PARTS = 8;
const MERGES_MAX = 4;
const LARGE_LEVEL = 3;
export const PARTS_DELAY = 1000;
export const PARTS_THROW = 3000;
const ROWS_MAX = 50_000;
const ASK_PARTS_MS = 2000;
const TOO_MANY_PARTS = 252;
const RETRY_MS = 1000;

interface Work {
  leftMs: number;
  done(): void;
}

interface Partition {
  wait: PartitionWait;
  /** Rows that wait on the log, and when the first of them came. */
  waiting: number;
  oldestMs: number;
  gatheringSinceMs: number | undefined;
  isInserting: boolean;
  notBeforeMs: number;
}

export interface Moment {
  atMs: number;
  waitMs: number;
  parts: number;
  refused: number;
  /** Age of the oldest record not stored. */
  behindMs: number;
}

export interface Model {
  readonly clock: Clock;
  /** `rowsPerSecond` over all partitions; the others multiply what an insert or merge costs whatever its size. */
  run(seconds: number, load: { rowsPerSecond: number; insertSlowness?: number; mergeSlowness?: number }): Moment[];
}

export function createClickHouseModel(partitionCount: number, make: (clock: Clock) => BatchWaits): Model {
  let now = 0;
  const clock: Clock = { nowMs: () => now, monotonicMs: () => now };
  const waits = make(clock);
  const partitions = Array.from(
    { length: partitionCount },
    (): Partition => ({
      ...{
        wait: waits.assigned(),
        waiting: 0,
        oldestMs: 0,
        gatheringSinceMs: undefined,
        isInserting: false,
        notBeforeMs: 0,
      },
    }),
  );
  /** Parts by how often their rows were merged, with their rows. */
  const levels: number[][] = [];
  const inserting = new Set<Work>();
  const merging = new Set<Work>();
  let refused = 0;
  let arrived = 0;
  let lastAsked = 0;
  /** Parts in merges count until their merge is done. */
  let merged = 0;
  const partCount = () => levels.reduce((sum, level) => sum + level.length, merged);

  function addPart(level: number, rows: number): void {
    levels[level] ??= [];
    (levels[level] as number[]).push(rows);
  }

  function begin(core: Set<Work>, leftMs: number, done: () => void): void {
    const one: Work = { leftMs, done };
    one.done = () => {
      core.delete(one);
      done();
    };
    core.add(one);
  }

  function insert(partition: Partition, slowness: number): void {
    const rows = Math.min(ROWS_MAX, partition.waiting);
    // Of what is left the oldest came some time after the oldest of all.
    partition.oldestMs += ((now - partition.oldestMs) * rows) / partition.waiting;
    partition.waiting -= rows;
    partition.gatheringSinceMs = undefined;
    partition.isInserting = true;
    partition.wait.insertBegins();
    const delayMs = Math.max(0, partCount() - PARTS_DELAY);
    begin(inserting, INSERT_MS * slowness + rows * MS_PER_ROW_INSERTED + delayMs, () => {
      addPart(0, rows);
      partition.isInserting = false;
      partition.wait.insertEnds();
    });
  }

  function step(partition: Partition, slowness: number): void {
    if (partition.isInserting || partition.waiting === 0 || now < partition.notBeforeMs) return;
    partition.gatheringSinceMs ??= now;
    if (partition.waiting < ROWS_MAX && now - partition.gatheringSinceMs < partition.wait.choose().ms) return;
    if (partCount() < PARTS_THROW) {
      insert(partition, slowness);
      return;
    }
    refused++;
    partition.notBeforeMs = now + RETRY_MS;
    partition.wait.insertBegins();
    partition.wait.insertEnds(new WarehouseError("too many parts", "transient", TOO_MANY_PARTS));
  }

  function merge(slowness: number): void {
    const level = levels.findIndex((parts) => parts.length >= MERGED_PARTS);
    // As ClickHouse does, large merges leave room for small ones.
    if (level < 0 || merging.size >= (level < LARGE_LEVEL ? MERGES_MAX : 1)) return;
    const rows = (levels[level] as number[]).splice(0, MERGED_PARTS).reduce((sum, each) => sum + each, 0);
    merged += MERGED_PARTS;
    begin(merging, MERGE_MS * slowness + rows * MS_PER_ROW_MERGED, () => {
      merged -= MERGED_PARTS;
      addPart(level + 1, rows);
    });
  }

  function tick(rowsPerSecond: number, insertSlowness: number, mergeSlowness: number): void {
    now += TICK_MS;
    arrived += (rowsPerSecond * TICK_MS) / 1000;
    const rows = Math.floor(arrived);
    arrived -= rows;
    for (const [i, partition] of partitions.entries()) {
      // The odd ones go round.
      const own =
        Math.floor(rows / partitionCount) + ((now / TICK_MS + i) % partitionCount < rows % partitionCount ? 1 : 0);
      if (partition.waiting === 0) partition.oldestMs = now;
      partition.waiting += own;
      step(partition, insertSlowness);
    }
    merge(mergeSlowness);
    // Each gets its share of the core, and what it does not use is lost, as on a busy machine.
    for (const core of [inserting, merging]) {
      const share = TICK_MS / core.size;
      for (const one of [...core]) {
        one.leftMs -= share;
        if (one.leftMs <= 0) one.done();
      }
    }
    if (now - lastAsked < ASK_PARTS_MS || !waits.hasInserted()) return;
    lastAsked = now;
    waits.partsShare = partCount() / PARTS_DELAY;
  }

  return {
    clock,
    run(seconds, { rowsPerSecond, insertSlowness = 1, mergeSlowness = 1 }) {
      const moments: Moment[] = [];
      const end = now + seconds * 1000;
      const refusedBefore = refused;
      while (now < end) {
        tick(rowsPerSecond, insertSlowness, mergeSlowness);
        if (now % 100 !== 0) continue;
        const oldest = Math.min(now, ...partitions.map(({ waiting, oldestMs }) => (waiting > 0 ? oldestMs : now)));
        moments.push({
          ...{ atMs: now, waitMs: waits.choose().ms, parts: partCount() },
          ...{ refused: refused - refusedBefore, behindMs: now - oldest },
        });
      }
      return moments;
    },
  };
}
