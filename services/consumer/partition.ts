// One partition from its assignment to its loss: find out where it stands, finish what was in flight, then batch after
// batch. docs/design.md, "Exactly once", gives the reason for each step.
import { type Assignment, OffsetOutOfRangeError, type StoredRecord } from "#lib/eventlog/log.ts";
import { processTraced } from "#lib/eventlog/traces.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { createHourKeeper, type HourKeeper } from "#lib/ledger/hours.ts";
import { createIdWindow, type IdWindow, type IdWindowBounds } from "#lib/ledger/id-window.ts";
import { createMarkerKeeper, decodeCommit } from "#lib/ledger/marker.ts";
import { COMPACTED_REMEDY, resetFault, resetRemedy, TRIMMED_REMEDY } from "#lib/ledger/same-log.ts";
import { createStoredOffsets, type StoredOffsets } from "#lib/ledger/stored.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import { type Warehouse, warehouseOf } from "#lib/warehouse/warehouse.ts";
import { type BatchBounds, createBatcher } from "./batch.ts";
import type { BatchWaits, PartitionWait } from "./batch-wait.ts";
import { createFlusher, type Flusher } from "./flush.ts";
import { PartitionHaltedError, TableRefusesError } from "./halted.ts";
import type { Identity } from "./identity/resolver.ts";
import type { TopicKind } from "./kinds.ts";
import { type ArrivedAt, type LagWatch, watchLag } from "./lag.ts";
import type { ConsumerMetrics } from "./metrics.ts";
import { askPatiently } from "./patience.ts";
import { readRange } from "./read-range.ts";
import { rebuildWindow } from "./rebuild-window.ts";
import type { PartitionSlots, Rollup } from "./rollup/roller.ts";

export interface PartitionDeps {
  kind: TopicKind;
  warehouse: Warehouse;
  metrics: ConsumerMetrics;
  clock: Clock;
  logger: Logger;
  batch: Omit<BatchBounds, "ageMsMax">;
  waits: BatchWaits;
  idWindow: IdWindowBounds;
  /** Of topics whose records say something about people. */
  identity: Identity | undefined;
  /** Of topics whose rows are rolled up. */
  rollup: Rollup | undefined;
  /** Name of the log's kind in traces. */
  messagingSystem: string;
  /** Epoch of the log that is read; undefined while none is recorded. */
  epoch(assignment: Assignment): Promise<string | undefined>;
  /** When a record was appended, as the log tells it to somebody who does not consume. */
  arrivedAt(partition: number, offset: number): Promise<number | undefined>;
  /** The partition waits for somebody to act, and says for what; undefined: it goes on. */
  onWaiting(assignment: Assignment, reason: string | undefined): void;
  /** The partition stores nothing yet, because of what it does first; undefined: that is done. */
  onRebuilding(assignment: Assignment, what: string | undefined): void;
  /** The next offset to process, each time it moves. */
  onProgress(origin: RowOrigin, next: number): void;
  /** The partition waits for its table to be repaired; undefined: it goes on. */
  onRefused(origin: RowOrigin, error: TableRefusesError | undefined): void;
  /** Fires when the process is to stop: the batch under way is finished, then the partition is let go. */
  stopping: AbortSignal;
}

const IDLE_MS = 500;
const EPOCH_PAUSE_MS = 1000;
const REFUSED_PAUSE_MS_MIN = 1000;
const REFUSED_PAUSE_MS_MAX = 5000;
/** What is sent to a table that refused everything, to see whether it was repaired; enough to see that it was not. */
const REFUSED_RETRY_RECORDS = 32;
/** Resolves when the process stops; rejects with PartitionHaltedError, or with what `assignment.lost` brings. */
export async function consumePartition(assignment: Assignment, deps: PartitionDeps): Promise<void> {
  const arrivedAt: ArrivedAt = (offset) => deps.arrivedAt(assignment.partition, offset);
  using lag = watchLag(assignment, deps.metrics, deps.clock, arrivedAt);
  // How far it is behind can be told without ClickHouse, and matters most while it is away.
  const commit = await assignment.committed();
  lag.moved(commit?.offset ?? (await assignment.bounds()).start);
  const epoch = await awaitEpoch(assignment, deps);
  if (epoch === undefined) return;
  const origin: RowOrigin = { epoch, topic: assignment.topic, partition: assignment.partition };
  const logger = deps.logger.child({ topic: origin.topic, partition: origin.partition });
  const { kind } = deps;
  const stored = createStoredOffsets(deps.warehouse, origin, kind.table);
  const window = createIdWindow(deps.idWindow);
  const slots = await deps.rollup?.assigned(origin, assignment.lost);
  using wait = deps.waits.assigned();
  const flusher = createFlusher({
    assignment,
    origin,
    warehouse: warehouseOf(deps.warehouse, origin.partition),
    table: kind.table,
    stored,
    preparer: kind.createPreparer(origin, window, stored),
    window,
    facts: deps.identity?.assigned(origin, assignment.lost),
    slots,
    markers: createMarkerKeeper(assignment, origin.epoch, deps.clock, wait.choose),
    metrics: deps.metrics,
    wait,
    clock: deps.clock,
    logger,
  });
  try {
    const hours = createHourKeeper(deps.warehouse, origin);
    const partition = { assignment, deps, origin, logger, stored, window, flusher, slots, lag, hours, wait };
    const next = await recover(partition);
    await runBatches(partition, next);
  } catch (error) {
    if (!(error instanceof OffsetOutOfRangeError)) throw error;
    const message = `${origin.topic}/${origin.partition}: ${error.message}; ${await remedyOf(error, assignment, kind)}`;
    throw new PartitionHaltedError(message, { cause: error });
  }
}

/** By what has happened to the log. */
async function remedyOf(error: OffsetOutOfRangeError, assignment: Assignment, kind: TopicKind): Promise<string> {
  if (error.isHole) return COMPACTED_REMEDY;
  const commit = await assignment.committed();
  const { start } = await assignment.bounds();
  return commit !== undefined && commit.offset < start ? TRIMMED_REMEDY : resetRemedy(kind);
}

/**
 * Nothing can have been stored without an epoch, so to wait for one is safe: `millrace migrate` may be under way. Undefined
 * when the process is to stop meanwhile.
 */
async function awaitEpoch(assignment: Assignment, deps: PartitionDeps): Promise<string | undefined> {
  const ended = AbortSignal.any([assignment.lost, deps.stopping]);
  for (let isWaiting = false; ; isWaiting = true) {
    const epoch = await askPatiently(() => deps.epoch(assignment), patienceOf(assignment, deps));
    if (epoch !== undefined) {
      if (isWaiting) deps.onWaiting(assignment, undefined);
      return epoch;
    }
    deps.onWaiting(assignment, `no epoch is recorded for topic ${assignment.topic}: run \`millrace migrate\``);
    if (!(await sleepUnless(ended, EPOCH_PAUSE_MS))) return undefined;
  }
}

interface Partition {
  assignment: Assignment;
  deps: PartitionDeps;
  origin: RowOrigin;
  logger: Logger;
  stored: StoredOffsets;
  window: IdWindow;
  flusher: Flusher;
  slots: PartitionSlots | undefined;
  lag: LagWatch;
  hours: HourKeeper;
  wait: PartitionWait;
}

/** Brings the partition to a state in which nothing is in flight; resolves with the next offset to process. */
async function recover(partition: Partition): Promise<number> {
  const { assignment, deps, origin, stored, flusher, logger, lag } = partition;
  const patience = patienceOf(assignment, deps);
  const bounds = await assignment.bounds();
  const progress = await askPatiently(() => stored.progress(), patience);
  // From the last accounted offset, not from the next: it is the one that tells whether this is still the same log.
  const head = await askPatiently(() => stored.head(Math.max(0, (progress ?? 0) - 1)), patience);
  const where = `${origin.topic}/${origin.partition}`;
  const fault = await resetFault(head, bounds, async (offset) => {
    const [record] = await readRange(assignment, { from: offset, to: offset });
    return record?.appendTimeMs;
  });
  if (fault) throw new PartitionHaltedError(`${where}: ${fault}; ${resetRemedy(deps.kind)}`);

  const commit = await assignment.committed();
  const state = commit && decodeCommit(commit);
  const own = state?.epoch === origin.epoch ? state : undefined;
  // Without a commit of this epoch (expired, or never made): from the first offset not known to be accounted for.
  let next = own && commit ? commit.offset : (progress ?? bounds.start);
  let marker = own?.marker;
  const end = marker ? marker.to + 1 : next;
  const inFlight = marker ? `, ${marker.to} was in flight` : "";
  if (end > bounds.end) {
    throw new PartitionHaltedError(
      `${where}: offset ${next} is next${inFlight}, but the log has ${bounds.start} to ${bounds.end}; ${resetRemedy(deps.kind)}`,
    );
  }
  if (next < bounds.start) {
    const missing = bounds.start - next - (await askPatiently(() => stored.accounted(next, bounds.start), patience));
    if (missing > 0) {
      throw new PartitionHaltedError(
        `${where}: offset ${next} is next${inFlight}, but the log begins at ${bounds.start}: ${missing} records were removed before ` +
          `they were stored; ${TRIMMED_REMEDY}`,
      );
    }
    // Somebody has given them up, or they are stored.
    logger.warn({ from: next, to: bounds.start - 1 }, "going on behind records that the log no longer has");
    next = bounds.start;
    marker = marker && marker.to >= next ? { from: next, to: marker.to } : undefined;
  }
  lag.moved(next);
  await rebuildWindow({ ...deps, ...partition, patience }, next, bounds.end, head?.appendTimeMs);
  if (marker) {
    logger.info({ ...marker }, "a range was in flight, replaying it");
    const records = await readRange(assignment, marker);
    if (!(await store(partition, records, flusher.settle))) return next;
    next = marker.to + 1;
    lag.moved(next);
    deps.onProgress(origin, next);
  }
  // Stored beyond what is committed, with no marker to say how it was cut: the commits were lost.
  while (head && next <= head.offset && !deps.stopping.aborted) {
    const to = Math.min(head.offset, next + deps.batch.recordsMax - 1);
    logger.warn({ from: next, to }, "rows without a commit, storing what is missing of the range");
    const records = await readRange(assignment, { from: next, to }, deps.batch.bytesMax);
    if (!(await store(partition, records, flusher.settle))) return next;
    next += records.length;
    lag.moved(next);
    deps.onProgress(origin, next);
  }
  logger.info({ next, end: bounds.end }, "partition assigned");
  return next;
}

/**
 * Stores the records for as long as their table refuses everything: a sample again and again, the rest once it is taken.
 * False when the process is to stop meanwhile; the marker knows what is in flight.
 */
async function store(
  { assignment, deps, origin, flusher, hours }: Partition,
  records: readonly StoredRecord[],
  how: Flusher["flush"],
): Promise<boolean> {
  await askPatiently(() => hours.note(records), patienceOf(assignment, deps));
  const ended = AbortSignal.any([assignment.lost, deps.stopping]);
  let isRefused = false;
  let pauseMs = REFUSED_PAUSE_MS_MIN;
  for (let [sending, rest, send] = [records, records.slice(0, 0), how]; sending.length > 0; ) {
    try {
      await send(sending);
      if (isRefused) deps.onRefused(origin, undefined);
      isRefused = false;
      [sending, rest, send] = [rest, [], flusher.settle];
    } catch (error) {
      if (!(error instanceof TableRefusesError)) throw error;
      if (!isRefused) deps.onRefused(origin, error);
      isRefused = true;
      const left = [...sending, ...rest].filter(({ offset }) => offset >= error.from);
      [sending, rest] = [left.slice(0, REFUSED_RETRY_RECORDS), left.slice(REFUSED_RETRY_RECORDS)];
      send = flusher.settle;
      if (!(await sleepUnless(ended, pauseMs))) return false;
      pauseMs = Math.min(pauseMs * 2, REFUSED_PAUSE_MS_MAX);
    }
  }
  return true;
}

async function runBatches(partition: Partition, start: number): Promise<void> {
  const { assignment, deps, origin, logger, flusher, slots, lag, wait } = partition;
  const bounds: BatchBounds = { ...deps.batch, ageMsMax: () => wait.choose().ms };
  const batcher = createBatcher(assignment, bounds, deps.clock, (oldest) =>
    lag.moved(oldest.offset, oldest.appendTimeMs),
  );
  const isStopping = () => deps.stopping.aborted || assignment.lost.aborted;
  let next = start;
  while (!isStopping()) {
    const records = await batcher.gather(next, IDLE_MS, isStopping);
    const [oldest] = records;
    if (!oldest) {
      slots?.idle();
      continue;
    }
    const flush = () => store(partition, records, flusher.flush);
    const source = { system: deps.messagingSystem, topic: origin.topic, partition: origin.partition };
    if (!(await processTraced({ ...source, group: deps.kind.group }, records, flush))) return;
    next += records.length;
    lag.moved(next);
    deps.onProgress(origin, next);
    const ageSeconds = (deps.clock.nowMs() - oldest.appendTimeMs) / 1000;
    deps.metrics.batchRows.observe(records.length);
    deps.metrics.batchAgeSeconds.observe(ageSeconds);
    logger.debug({ from: oldest.offset, to: next - 1, records: records.length, ageSeconds }, "batch stored");
  }
}

function patienceOf({ lost }: Assignment, { logger }: PartitionDeps) {
  return { signal: lost, logger };
}
