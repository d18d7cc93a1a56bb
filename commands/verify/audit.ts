// The audit of one topic: every offset of the log is exactly one of a row in its table or a line in log_outcomes. It
// reads what is stored and what the log says about itself; no counter of a service takes part in it.

import type { Commit, LogReader, PartitionBounds } from "#lib/eventlog/log.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { currentEpoch } from "#lib/ledger/epochs.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import { firstSlotFrom } from "#lib/points/slots.ts";
import { shardCountFault, shardOrderFault } from "#lib/warehouse/cluster/shards.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import { arrivalOf, firstArrivedSince } from "./arrival.ts";
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
  log: LogReader;
  warehouse: Warehouse;
  kind: StoredTopic;
  /** Where the log ended, by partition, when the question was asked; what came later is left out. Default: nothing is. */
  ends?: ReadonlyMap<number, number> | undefined;
}

export interface PartitionAudit {
  partition: number;
  /** Offsets that are still on the log. */
  start: number;
  /** Offset after the last record of the log. */
  end: number;
  /** First offset that is claimed. Those below it are on the log no longer, and in the tables no longer or never. */
  from: number;
  /**
   * First offset that is not claimed, because it is not committed. Beyond the commit when the log begins only there: what
   * it has let go without a commit is lost.
   */
  to: number;
  /** Where `to` comes from; none: nothing is committed or noted, so nothing is claimed. */
  source: "committed" | "progress" | "none";
  /** Offsets below `from` that the log still has, and that arrived too long ago for the tables to have them still. */
  expired: number;
  /** Records on the log from `to` on. `oldestMs`: when the first of them was appended, milliseconds, if that is known. */
  notStored: { count: number; oldestMs: number | undefined };
  rows: number;
  duplicates: number;
  /** Other events under an id that was used before. */
  conflicts: number;
  deadLetters: number;
  erased: number;
  /** Missing for good, and given up by a person. */
  lost: number;
  /** Of transactions of other producers: control records, and what was aborted. */
  aborted: number;
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
  /**
   * Earlier incarnations of the topic with rows or outcomes. Nothing is claimed of them, unless they are of the same log:
   * then `alsoStored` of their rows are rows of this epoch as well.
   */
  olderEpochs: { epoch: string; stored: number; alsoStored: number }[];
  partitions: PartitionAudit[];
  /** Rows that are of no topic: nothing is claimed of them. */
  unplaced: number;
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
  notStored: number;
  lost: number;
  missing: number;
  doubled: number;
  beyondEnd: number;
  duplicateIds: number;
}

export function totalsOf({ partitions, duplicateIds, olderEpochs }: Audit): AuditTotals {
  const none = { accounted: 0, expired: 0, notStored: 0, lost: 0, missing: 0, doubled: 0, beyondEnd: 0 };
  const totals = { ...none, duplicateIds: duplicateIds.count };
  for (const { alsoStored } of olderEpochs) totals.doubled += alsoStored;
  for (const { from, to, expired, notStored, lost, missing, doubled, beyondEnd } of partitions) {
    totals.accounted += to - from - missing.count;
    totals.expired += expired;
    totals.notStored += notStored.count;
    totals.lost += lost;
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
  const epoch = await epochOf(log, warehouse, topic);
  const stored = createStoredLog(warehouse, { epoch, topic }, table);
  // The order matters while a consumer works: commits first, because everything below them is stored by then; the log's
  // ends last, because whatever was stored until then is below them.
  const committed = await log.committed(topic, group);
  const progress = await stored.progress();
  const keptMs = await claimedSince(stored, topic);
  const extents = await stored.extents(keptMs);
  const given = await stored.firstGiven(keptMs);
  const bounds = new Map((await log.bounds(topic)).map((each) => [each.partition, each]));

  const partitions: PartitionAudit[] = [];
  for (const partition of [...new Set([...bounds.keys(), ...extents.keys()])].sort((a, b) => a - b)) {
    const known = bounds.get(partition) ?? { partition, start: 0, end: 0 };
    const claim = claimOf(offsetOf(committed.get(partition), epoch), progress.get(partition), known);
    const evidence = { extent: extents.get(partition), given: given.get(partition), keptMs };
    const from = await lowestClaimed(options, known, evidence, claim.to);
    const notStored = await waiting(options, known, claim.to);
    partitions.push(await auditPartition(stored, known, { ...claim, from, notStored }, evidence.extent));
  }
  return {
    topic,
    epoch,
    shards: shardsOf(warehouse).length,
    olderEpochs: await olderEpochs(warehouse, kind, epoch, stored),
    partitions,
    unplaced: await stored.unplaced(),
    duplicateIds: await stored.duplicateIds(),
  };
}

async function epochOf(log: LogReader, warehouse: Warehouse, topic: string): Promise<string> {
  const epoch = await currentEpoch(log, warehouse, topic);
  if (epoch !== undefined) return epoch;
  throw new AuditImpossibleError(
    `ClickHouse database ${warehouse.database} has no epoch of topic ${topic}: run millrace migrate, or name the right CLICKHOUSE_DATABASE`,
  );
}

async function olderEpochs(
  warehouse: Warehouse,
  { topic, table }: StoredTopic,
  epoch: string,
  storedLog: StoredLog,
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
  const each = [...sums].map(async ([older, stored]) => {
    return { epoch: older, stored, alsoStored: await storedLog.alsoUnder(older) };
  });
  return Promise.all(each);
}

/** A commit that names another epoch says nothing of this log: its consumer will not go on from there. */
function offsetOf(commit: Commit | undefined, epoch: string): number | undefined {
  const named = /"epoch":"([^"]*)"/.exec(commit?.metadata ?? "")?.[1] ?? epoch;
  return named === epoch ? commit?.offset : undefined;
}

function claimOf(
  committed: number | undefined,
  progress: number | undefined,
  { start }: PartitionBounds,
): Pick<PartitionAudit, "to" | "source"> {
  // A group's commits expire after days without a consumer; the consumer's own note stays.
  const next = committed ?? progress;
  if (next === undefined) return { to: 0, source: "none" };
  return { to: Math.max(next, start), source: committed === undefined ? "progress" : "committed" };
}

/** What is on the log and not claimed to be stored yet. */
async function waiting(
  { log, kind: { topic }, ends }: AuditOptions,
  { partition, start, end }: PartitionBounds,
  to: number,
): Promise<PartitionAudit["notStored"]> {
  const next = Math.max(start, to);
  const count = Math.max(0, Math.min(end, ends?.get(partition) ?? end) - next);
  const arrivedMs = count > 0 ? await arrivalOf(log, topic, partition, next) : undefined;
  return { count, oldestMs: arrivedMs !== undefined && Number.isFinite(arrivedMs) ? arrivedMs : undefined };
}

async function auditPartition(
  stored: StoredLog,
  { partition, start, end }: PartitionBounds,
  claim: Pick<PartitionAudit, "from" | "to" | "source" | "notStored">,
  extent: Extent | undefined,
): Promise<PartitionAudit> {
  const { from, to } = claim;
  const audit: PartitionAudit = {
    ...{ partition, start, end },
    ...claim,
    expired: Math.max(0, from - start),
    rows: 0,
    duplicates: 0,
    conflicts: 0,
    deadLetters: 0,
    erased: 0,
    lost: 0,
    aborted: 0,
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

interface Evidence {
  extent: Extent | undefined;
  given: number | undefined;
  keptMs: number | undefined;
}

/**
 * What is stored says nothing about what should be: all of it may be what was lost. Where that begins is said by the log,
 * which knows when each record arrived, and below the log's start by what consumers noted when they were given it. The
 * lowest offset that is stored can only add to that.
 */
async function lowestClaimed(
  { log, kind: { topic } }: AuditOptions,
  bounds: PartitionBounds,
  { extent, given, keptMs }: Evidence,
  to: number,
): Promise<number> {
  const onLog = keptMs === undefined ? bounds.start : await firstArrivedSince(log, topic, bounds, to, keptMs);
  return Math.min(to, onLog, given ?? to, extent?.lowest ?? to);
}

async function examine(stored: StoredLog, audit: PartitionAudit): Promise<void> {
  const { partition, from, to } = audit;
  const blocks = await stored.blocks(partition, from, to);
  const byBlock = new Map<number, BlockSum>(blocks.stored.map((sum) => [sum.block, sum]));
  for (const sum of blocks.stored) {
    audit.rows += sum.rows;
    audit.duplicates += sum.duplicates;
    audit.conflicts += sum.conflicts;
    audit.deadLetters += sum.deadLetters;
    audit.erased += sum.erased;
    audit.lost += sum.lost;
    audit.aborted += sum.aborted;
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
