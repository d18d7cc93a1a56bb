// The audit of one topic with its roll-up, and the repair of both.
import { setTimeout as pause } from "node:timers/promises";
import type { LogReader } from "#lib/eventlog/log.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Audit, auditLog, isClean, totalsOf } from "./audit.ts";
import { type RepairResult, repairGaps } from "./repair.ts";
import { auditRollup, type RollupAudit, repairRollup } from "./rollup.ts";

export interface VerifyDeps {
  log: LogReader;
  warehouse: Warehouse;
  kind: StoredTopic;
  /** As AuditOptions has it. */
  ends?: ReadonlyMap<number, number> | undefined;
}

export interface Finding {
  kind: StoredTopic;
  audit: Audit;
  rollup: RollupAudit;
  /** Undefined when nothing was missing, or nothing was to be repaired. */
  repair: RepairResult | undefined;
  /** Slots of the roll-up that were computed again because they differed. */
  recomputed: number;
}

/** Rejects with AuditImpossibleError, RepairConflictError, LogUnavailableError or WarehouseError. */
export async function verifyTopic(deps: VerifyDeps, isRepairing: boolean): Promise<Finding> {
  const { kind, warehouse } = deps;
  let audit = await auditLog(deps);
  let repair: RepairResult | undefined;
  // Of very many gaps an audit lists a part, so what it lists is repaired until nothing more can be.
  while (isRepairing && totalsOf(audit).missing > 0) {
    const gaps = audit.partitions.map(({ partition, missing }) => ({ partition, ranges: missing.ranges }));
    const round = await repairGaps(deps, audit, gaps);
    repair = { repaired: round.repaired + (repair?.repaired ?? 0), lost: round.lost };
    audit = await auditLog(deps);
    if (round.repaired === 0) break;
  }
  let rollup = await auditRollup(warehouse, audit);
  let recomputed = 0;
  if (isRepairing && rollup.differing.length > 0) {
    recomputed = await repairRollup(warehouse, audit, rollup);
    rollup = await auditRollup(warehouse, audit);
  }
  return { kind, audit, rollup, repair, recomputed };
}

export function isSound({ audit, rollup }: Finding): boolean {
  return isClean(audit) && rollup.differing.length === 0;
}

const POLL_MS = 250;

/**
 * Resolves with where the topic's log ended when it was asked, as soon as all of that is committed, or after `msMax`.
 * Rejects with LogUnavailableError.
 */
export async function endsOnceStored(log: LogReader, { topic, group }: StoredTopic, msMax: number) {
  const deadline = performance.now() + msMax;
  const bounds = await log.bounds(topic);
  for (;;) {
    const committed = await log.committed(topic, group);
    const isStored = bounds.every(
      ({ partition, start, end }) => start === end || (committed.get(partition)?.offset ?? 0) >= end,
    );
    if (isStored || performance.now() >= deadline) break;
    await pause(Math.min(POLL_MS, Math.max(1, deadline - performance.now())));
  }
  return new Map(bounds.map(({ partition, end }) => [partition, end]));
}

/** False for a topic that nobody has ever written to, of which there is nothing to say. */
export function isUsed({ audit: { partitions, olderEpochs } }: Finding): boolean {
  return olderEpochs.length > 0 || partitions.some(({ end, beyondEnd }) => end > 0 || beyondEnd !== undefined);
}
