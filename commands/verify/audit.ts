// The audit of one topic: every offset of the log is exactly one of a row in its table or a line in log_outcomes. It
// reads what is stored and what the log says about itself; no counter of a service takes part in it.

import type { EventLog, PartitionBounds } from "#lib/eventlog/log.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import { firstSlotFrom } from "#lib/points/slots.ts";
import { shardCountFault, shardOrderFault } from "#lib/warehouse/cluster/shards.ts";
import { readEpoch } from "#lib/warehouse/epochs.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { firstArrivedSince } from "./arrival.ts";
import {
  type BlockSum,
  blockOffsets,
  createStoredLog,
  type DoubledOffset,
  type DuplicateId,
  type Extent,
  type OffsetRange,
  type StoredLog,
} from "./stored.ts";

export interface AuditOptions {
  log: EventLog;
  warehouse: Warehouse;
  kind: StoredTopic;
}

export interface PartitionAudit {
  partition: number;
  /** Offset after the last record of the log. */
  end: number;
  /** First offset that is claimed. Those below it are on the log no longer, and in the tables no longer or never. */
  from: number;
  /** First offset that is not claimed, because it is not committed. */
  to: number;
  /** Where `to` comes from; none: nothing is committed or noted, so nothing is claimed. */
  source: "committed" | "progress" | "none";
  /** Offsets below `from` that the log still has, and the tables need not have: their retention has passed. */
  expired: number;
  rows: number;
  duplicates: number;
  deadLetters: number;
  erased: number;
  /** Ranges may list less than `count` offsets when there are very many gaps. */
  missing: { count: number; ranges: OffsetRange[] };
  doubled: { count: number; examples: DoubledOffset[] };
  /** Set when more is stored or committed than the log has: it was emptied or replaced. */
  beyondEnd: { stored: number; highest: number } | undefined;
}

export interface Audit {
  topic: string;
  epoch: string;
  /** Places that were asked: 1 but for a cluster. */
  shards: number;
  /** Earlier incarnations of the topic with rows or outcomes; their log is gone, so nothing is claimed of them. */
  olderEpochs: { epoch: string; stored: number }[];
  partitions: PartitionAudit[];
  duplicateIds: { count: number; examples: DuplicateId[] };
}

/** The audit cannot be run; the message names the remedy. */
export class AuditImpossibleError extends Error {
  override readonly name = "AuditImpossibleError";
}

/** Totals over partitions. */
export interface AuditTotals {
  accounted: number;
  expired: number;
  missing: number;
  doubled: number;
  beyondEnd: number;
  duplicateIds: number;
}

export function totalsOf({ partitions, duplicateIds }: Audit): AuditTotals {
  const totals = { accounted: 0, expired: 0, missing: 0, doubled: 0, beyondEnd: 0, duplicateIds: duplicateIds.count };
  for (const { from, to, expired, missing, doubled, beyondEnd } of partitions) {
    totals.accounted += to - from - missing.count;
    totals.expired += expired;
    totals.missing += missing.count;
    totals.doubled += doubled.count;
    totals.beyondEnd += beyondEnd === undefined ? 0 : 1;
  }
  return totals;
}

export function isClean(audit: Audit): boolean {
  const { missing, doubled, beyondEnd, duplicateIds } = totalsOf(audit);
  return missing + doubled + beyondEnd + duplicateIds === 0;
}

/**
 * Safe beside a running consumer: only committed offsets are claimed. Rejects with AuditImpossibleError,
 * MisplacedPartitionError, LogUnavailableError or WarehouseError.
 */
export async function auditLog(options: AuditOptions): Promise<Audit> {
  const { log, warehouse, kind } = options;
  const { topic, group, table } = kind;
  // Of shards in another order everything would seem to be missing, and a repair would store it twice.
  const fault = (await shardCountFault(warehouse)) ?? (await shardOrderFault(warehouse));
  if (fault !== undefined) throw new AuditImpossibleError(fault);
  const epoch = await currentEpoch(log, warehouse, topic);
  const stored = createStoredLog(warehouse, { epoch, topic }, table);
  // The order matters while a consumer works: commits first, because everything below them is stored by then; the log's
  // ends last, because whatever was stored until then is below them.
  const committed = await log.committed(topic, group);
  const progress = await stored.progress();
  const keptMs = await claimedSince(stored, topic);
  const extents = await stored.extents(keptMs);
  const bounds = new Map((await log.bounds(topic)).map((each) => [each.partition, each]));

  const partitions: PartitionAudit[] = [];
  for (const partition of [...new Set([...bounds.keys(), ...extents.keys()])].sort((a, b) => a - b)) {
    const claim = claimOf(committed.get(partition)?.offset, progress.get(partition));
    const known = bounds.get(partition) ?? { partition, start: 0, end: 0 };
    const from = await lowestClaimed(options, known, extents.get(partition), keptMs, claim.to);
    partitions.push(await auditPartition(stored, known, { ...claim, from }, extents.get(partition)));
  }
  return {
    topic,
    epoch,
    shards: shardsOf(warehouse).length,
    olderEpochs: await olderEpochs(warehouse, kind, epoch),
    partitions,
    duplicateIds: await stored.duplicateIds(),
  };
}

async function currentEpoch(log: EventLog, warehouse: Warehouse, topic: string): Promise<string> {
  const epoch = (await log.epoch()) ?? (await readEpoch(warehouse, topic));
  if (epoch !== undefined) return epoch;
  throw new AuditImpossibleError(
    `ClickHouse database ${warehouse.database} has no epoch of topic ${topic}: run millrace migrate, or name the right CLICKHOUSE_DATABASE`,
  );
}

async function olderEpochs(
  warehouse: Warehouse,
  { topic, table }: StoredTopic,
  epoch: string,
): Promise<Audit["olderEpochs"]> {
  const count = (from: string) =>
    `SELECT log_epoch AS epoch, count() AS n FROM ${from} WHERE log_topic = {topic:String} AND log_epoch != {epoch:String} GROUP BY epoch`;
  const sql = `SELECT epoch, toString(sum(n)) AS stored FROM (${count(table.name)} UNION ALL ${count("log_outcomes")})
     GROUP BY epoch ORDER BY epoch`;
  const sums = new Map<string, number>();
  for (const shard of shardsOf(warehouse)) {
    const rows = await shard.query<{ epoch: string; stored: string }>(sql, { params: { topic, epoch } });
    for (const row of rows) sums.set(row.epoch, (sums.get(row.epoch) ?? 0) + Number(row.stored));
  }
  return [...sums].map(([older, stored]) => ({ epoch: older, stored }));
}

function claimOf(committed: number | undefined, progress: number | undefined): Pick<PartitionAudit, "to" | "source"> {
  // A group's commits expire after days without a consumer; the consumer's own note stays.
  if (committed !== undefined) return { to: committed, source: "committed" };
  return progress === undefined ? { to: 0, source: "none" } : { to: progress, source: "progress" };
}

async function auditPartition(
  stored: StoredLog,
  { partition, start, end }: PartitionBounds,
  claim: Pick<PartitionAudit, "from" | "to" | "source">,
  extent: Extent | undefined,
): Promise<PartitionAudit> {
  const { from, to } = claim;
  const audit: PartitionAudit = {
    ...{ partition, end },
    ...claim,
    expired: Math.max(0, from - start),
    rows: 0,
    duplicates: 0,
    deadLetters: 0,
    erased: 0,
    missing: { count: 0, ranges: [] },
    doubled: { count: 0, examples: [] },
    beyondEnd: undefined,
  };
  const highest = Math.max(extent?.highest ?? -1, to - 1);
  if (highest >= end) audit.beyondEnd = { stored: await stored.countFrom(partition, end), highest };
  if (from < to) await examine(stored, audit);
  return audit;
}

/** Undefined: nothing expires. Of points from the first whole slot on, so that what is repaired can be rolled up again. */
async function claimedSince(stored: StoredLog, topic: string): Promise<number | undefined> {
  const keptMs = await stored.keptSince();
  return keptMs !== undefined && topic === POINTS_TOPIC ? firstSlotFrom(keptMs) : keptMs;
}

/**
 * Without a TTL, what the log still has must be stored, and so must everything above the lowest offset that is. With
 * one, records on the log may have left the tables by right, and what is stored says where that ends. But points stay
 * for hours, and a loss could be all that is stored of them: of these the log says when they arrived.
 */
async function lowestClaimed(
  { log, kind: { topic } }: AuditOptions,
  bounds: PartitionBounds,
  extent: Extent | undefined,
  keptMs: number | undefined,
  to: number,
): Promise<number> {
  if (keptMs === undefined) return Math.min(to, bounds.start, extent?.lowest ?? bounds.start);
  const arrived = topic === POINTS_TOPIC ? await firstArrivedSince(log, topic, bounds, to, keptMs) : to;
  return Math.min(arrived, extent?.lowest ?? to);
}

async function examine(stored: StoredLog, audit: PartitionAudit): Promise<void> {
  const { partition, from, to } = audit;
  const blocks = await stored.blocks(partition, from, to);
  const byBlock = new Map<number, BlockSum>(blocks.stored.map((sum) => [sum.block, sum]));
  for (const sum of blocks.stored) {
    audit.rows += sum.rows;
    audit.duplicates += sum.duplicates;
    audit.deadLetters += sum.deadLetters;
    audit.erased += sum.erased;
  }
  for (const [block, expected] of [...blocks.expected].sort(([a], [b]) => a - b)) {
    const sum = byBlock.get(block);
    if (sum?.count === expected.count && sum.hash === expected.hash) continue;
    const blockFrom = Math.max(from, block * blockOffsets);
    const blockTo = Math.min(to, (block + 1) * blockOffsets);
    const missing =
      sum === undefined
        ? { count: expected.count, ranges: [{ from: blockFrom, to: blockTo - 1 }] }
        : await stored.missing(partition, blockFrom, blockTo);
    audit.missing.count += missing.count;
    appendRanges(audit.missing.ranges, missing.ranges);
    if (sum === undefined) continue;
    const doubled = await stored.doubled(partition, blockFrom, blockTo);
    audit.doubled.count += doubled.count;
    audit.doubled.examples.push(...doubled.examples);
  }
}

/** A gap that runs over the edge of a block is one gap. */
function appendRanges(ranges: OffsetRange[], more: readonly OffsetRange[]): void {
  for (const range of more) {
    const last = ranges.at(-1);
    if (last !== undefined && last.to + 1 === range.from) last.to = range.to;
    else ranges.push({ ...range });
  }
}
