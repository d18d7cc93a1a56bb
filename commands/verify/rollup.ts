// The roll-up against what it was computed from. Only where every raw row is there: of a partition with missing rows it
// may know more than they do, and to compute it again would lose that as well.
import { setTimeout as pause } from "node:timers/promises";
import { ALL_CLOSED_MS } from "#lib/points/progress.ts";
import { type DifferingSlot, differingSlots, recomputeSlots, SLOT_MS } from "#lib/points/slots.ts";
import { type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";
import type { Audit } from "./audit.ts";

export interface RollupAudit {
  /** Slots that do not say what their raw rows say. */
  differing: (DifferingSlot & { partition: number })[];
  /** Partitions that were not compared, because rows are missing. */
  skipped: number[];
}

/** Time for a consumer to compute a slot again into which a row has just fallen. */
const SETTLE_MS = 1000;

/** Closed slots of which nothing has expired. Rejects with WarehouseError. */
export async function auditRollup(warehouse: Warehouse, audit: Audit): Promise<RollupAudit> {
  const { epoch, topic } = audit;
  const isWhole = ({ missing }: Audit["partitions"][number]) => missing.count === 0;
  const differing: RollupAudit["differing"] = [];
  for (const { partition } of audit.partitions.filter(isWhole)) {
    const range = { epoch, topic, partition, fromMs: 0, toMs: ALL_CLOSED_MS };
    const shard = warehouseOf(warehouse, partition);
    const first = await differingSlots(shard, range);
    if (first.length === 0) continue;
    await pause(SETTLE_MS);
    const still = await differingSlots(shard, range, new Set(first.map(({ slotMs }) => slotMs)));
    differing.push(...still.map((slot) => ({ ...slot, partition })));
  }
  const skipped = audit.partitions.filter((each) => !isWhole(each)).map(({ partition }) => partition);
  return { differing, skipped };
}

/** Computes the slots that differ again and resolves with their number. */
export async function repairRollup(warehouse: Warehouse, audit: Audit, { differing }: RollupAudit): Promise<number> {
  const { epoch, topic } = audit;
  for (const { partition, slotMs } of differing) {
    const range = { epoch, topic, partition, fromMs: slotMs, toMs: slotMs + SLOT_MS };
    await recomputeSlots(warehouseOf(warehouse, partition), range);
  }
  return differing.length;
}
