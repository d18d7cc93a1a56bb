// Keeps points_5m: computes a slot once it is closed, and again when a row still falls into it. Beside the flushes, and
// holds none of them up but for the latter. Whatever it does can be done again, by anybody (lib/points/slots.ts).

import { Counter, type Registry } from "prom-client";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { ALL_CLOSED_MS, noteNextSlot, readNextSlot, retiredPartitions } from "#lib/points/progress.ts";
import { computeSlots, mayHaveExpired, recomputeSlots, SLOT_MS, slotOf, slotsWithRows } from "#lib/points/slots.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import { type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";
import { askPatiently } from "../patience.ts";

export interface RollupDeps {
  warehouse: Warehouse;
  clock: Clock;
  registry: Registry;
  logger: Logger;
}

export interface Rollup extends AsyncDisposable {
  /**
   * The partition is this process's until `lost` fires: what is open of it is closed in time. Resolves when the partition
   * is known to readers of the roll-up, which must be before it has rows. Waits for ClickHouse.
   */
  assigned(origin: RowOrigin, lost: AbortSignal): Promise<PartitionSlots>;
}

export interface PartitionSlots {
  /**
   * Rows of these records are stored, and not committed yet. Resolves when every closed slot among theirs was computed
   * with them, so that a commit never leaves a row behind that the roll-up lacks.
   */
  stored(records: readonly StoredRecord[]): Promise<void>;
  /** Everything the log has of the partition is stored. */
  idle(): void;
}

/** With nothing more to come, a slot is over when our clock says so. It may be ahead of the log's. */
const CLOCK_MARGIN_MS = 60_000;
/** An idle partition's progress is noted this often, so that readers need not look through raw rows for its sake. */
const IDLE_NOTE_MS = 12 * SLOT_MS;
/**
 * The last closed slots are computed again on assignment. A former owner that was frozen while it closed one, and notes
 * it when it thaws, may have closed it over a row that the owner after it had stored and died before it computed.
 */
const RECHECKED_SLOTS = 2;
/** After so many computed slots progress is noted, for the process that has to go on. */
const SLOTS_PER_NOTE = 12;

interface Partition {
  origin: RowOrigin;
  lost: AbortSignal;
  /** Begin of each slot that has rows and is not computed. */
  open: Set<number>;
  /** Slots before it are computed, or being computed. A row that falls into one of them is late. */
  closingMs: number;
  /** As noted in rollup_progress. */
  notedMs: number;
  /** Slots before it are over. */
  overMs: number;
}

/** Disposing ends the computing under way; progress says where to go on. */
export function createRollup({ warehouse, clock, registry, logger }: RollupDeps): Rollup {
  const metrics = createRollupMetrics(registry);
  const shardOf = ({ partition }: RowOrigin) => warehouseOf(warehouse, partition);
  const stopping = new AbortController();
  const partitions = new Map<AbortSignal, Partition>();
  /** What is to be done once for a partition, after what is due. */
  const errands: { partition: Partition; act: (partition: Partition) => Promise<void> }[] = [];
  let wake = Promise.withResolvers<void>();

  function patiently<T>(lost: AbortSignal, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = AbortSignal.any([lost, stopping.signal]);
    return askPatiently(() => ask(signal), { signal, logger });
  }

  /** One query a slot: what it takes of memory is bounded by a slot's series, however many slots are behind. */
  async function compute({ origin, lost }: Partition, slots: readonly number[]): Promise<void> {
    for (const slot of slots) {
      const range = { ...origin, fromMs: slot, toMs: slot + SLOT_MS };
      await patiently(lost, (signal) => computeSlots(shardOf(origin), range, signal));
      metrics.slots.inc({ topic: origin.topic });
    }
  }

  async function close(partition: Partition): Promise<void> {
    const { origin, lost, open, overMs } = partition;
    if (overMs <= partition.closingMs) return;
    // Set before the first query: a row that is stored from now on may not be in it, and is late.
    partition.closingMs = overMs;
    const due = [...open].filter((slot) => slot < overMs).sort((a, b) => a - b);
    for (let rest = due; ; ) {
      const some = rest.slice(0, SLOTS_PER_NOTE);
      rest = rest.slice(SLOTS_PER_NOTE);
      await compute(partition, some);
      for (const slot of some) open.delete(slot);
      const nextMs = rest[0] ?? overMs;
      await patiently(lost, (signal) => noteNextSlot(shardOf(origin), origin, nextMs, partition.notedMs, signal));
      partition.notedMs = nextMs;
      if (rest.length === 0) return;
    }
  }

  /** Slots of earlier incarnations of the topic: nobody adds to them any more. */
  async function closeRetired({ origin: { topic, epoch }, lost }: Partition): Promise<void> {
    for (const { origin, nextMs } of await patiently(lost, () => retiredPartitions(warehouse, topic, epoch))) {
      const open = new Set(await patiently(lost, () => slotsWithRows(shardOf(origin), origin, nextMs)));
      await close({ origin, lost, open, closingMs: nextMs, notedMs: nextMs, overMs: ALL_CLOSED_MS });
    }
  }

  async function recheck({ origin, lost, notedMs }: Partition): Promise<void> {
    const range = { ...origin, fromMs: notedMs - RECHECKED_SLOTS * SLOT_MS, toMs: notedMs };
    await patiently(lost, (signal) => recomputeSlots(shardOf(origin), range, signal));
  }

  /** Told, because nobody can tell afterwards: what has expired of a slot that nobody closed is in no roll-up. */
  async function tellExpired({ origin, lost, notedMs }: Partition): Promise<void> {
    if (!(await patiently(lost, () => mayHaveExpired(shardOf(origin), origin.topic, notedMs)))) return;
    const since = new Date(notedMs).toISOString();
    logger.warn(
      { ...origin, since },
      "the roll-up has not been computed since then: rows stored before may have expired without being rolled up",
    );
  }

  function move(partition: Partition, overMs: number): void {
    if (overMs <= partition.overMs) return;
    partition.overMs = overMs;
    wake.resolve();
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await wake.promise;
      wake = Promise.withResolvers();
      for (const partition of partitions.values()) await unlessLost(partition, close);
      for (const { partition, act } of errands.splice(0)) await unlessLost(partition, act);
    }
  }

  async function unlessLost(partition: Partition, act: (partition: Partition) => Promise<void>): Promise<void> {
    try {
      await act(partition);
    } catch (error) {
      // Its next owner finds the same slots open.
      if (!partition.lost.aborted && !stopping.signal.aborted) throw error;
    }
  }

  const running = run().catch((error: unknown) => {
    logger.error({ err: error }, "points are not rolled up any more; restart the consumer");
  });

  function slotsOf(partition: Partition): PartitionSlots {
    return {
      async stored(records) {
        const late = new Set<number>();
        let slot = Number.NaN;
        let latest = 0;
        for (const { appendTimeMs } of records) {
          if (appendTimeMs >= slot && appendTimeMs < slot + SLOT_MS) continue;
          slot = slotOf(appendTimeMs);
          latest = Math.max(latest, slot);
          (slot < partition.closingMs ? late : partition.open).add(slot);
        }
        if (late.size > 0) {
          logger.debug({ ...partition.origin, slots: late.size }, "rows fell into closed slots, computing these again");
          metrics.late.inc({ topic: partition.origin.topic }, late.size);
          await compute(
            partition,
            [...late].sort((a, b) => a - b),
          );
        }
        move(partition, latest);
      },
      idle() {
        const overMs = slotOf(clock.nowMs() - CLOCK_MARGIN_MS);
        const isDue = overMs - partition.notedMs >= IDLE_NOTE_MS || [...partition.open].some((slot) => slot < overMs);
        if (isDue) move(partition, overMs);
      },
    };
  }

  return {
    async assigned(origin, lost) {
      // The partition starts over: what is being computed for it goes on.
      const known = partitions.get(lost);
      if (known?.origin.epoch === origin.epoch) return slotsOf(known);
      const noted = await patiently(lost, () => readNextSlot(shardOf(origin), origin));
      if (noted === undefined) await patiently(lost, (signal) => noteNextSlot(shardOf(origin), origin, 0, 0, signal));
      const nextMs = noted ?? 0;
      const slots = await patiently(lost, () => slotsWithRows(shardOf(origin), origin, nextMs));
      const partition = { origin, lost, open: new Set(slots), closingMs: nextMs, notedMs: nextMs, overMs: 0 };
      partitions.set(lost, partition);
      lost.addEventListener("abort", () => partitions.delete(lost), { once: true });
      if (nextMs > 0) {
        await unlessLost(partition, tellExpired);
        // As noted now: closing goes on meanwhile.
        errands.push({ partition: { ...partition }, act: recheck });
      }
      // One partition of each topic looks after its earlier incarnations.
      if (origin.partition === 0) errands.push({ partition, act: closeRetired });
      move(partition, slots.at(-1) ?? 0);
      wake.resolve();
      return slotsOf(partition);
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      wake.resolve();
      await running;
    },
  };
}

function createRollupMetrics(registry: Registry) {
  const registers = [registry];
  const labelNames = ["topic"] as const;
  return {
    slots: new Counter({
      name: "millrace_rollup_slots_total",
      help: "Slots of points_5m computed from raw rows.",
      ...{ labelNames, registers },
    }),
    late: new Counter({
      name: "millrace_rollup_late_slots_total",
      help: "Slots computed again because a row arrived after they were closed.",
      ...{ labelNames, registers },
    }),
  };
}
