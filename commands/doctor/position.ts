// Where log, group and tables stand: who consumes, how far behind, and whether the log is still the one that was stored.
import type { GroupState } from "#lib/eventlog/kafka/inspection.ts";
import type { LogReader, PartitionBounds } from "#lib/eventlog/log.ts";
import { currentEpoch, recordedEpoch } from "#lib/ledger/epochs.ts";
import { appendedAt, resetFault, resetRemedy, storedHeads } from "#lib/ledger/same-log.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Finding, Result } from "./probe.ts";

export interface Lag {
  partitions: PartitionBounds[];
  committed: ReadonlyMap<number, number>;
  records: number;
  /** Since when the oldest record that is not stored waits, milliseconds; undefined: none waits. */
  oldestMs: number | undefined;
}

const LAG_WARN_MS = 60_000;
/** Partitions looked into for their oldest record: those with most to do. */
const PARTITIONS_LOOKED_INTO = 32;
const READ_WAIT_MS = 2_000;

/** Rejects with LogUnavailableError. */
async function readLag(log: LogReader, { topic, group }: StoredTopic): Promise<Lag> {
  // Commits first: what is committed later would seem to be beyond the end.
  const commits = await log.committed(topic, group);
  const partitions = await log.bounds(topic);
  const committed = new Map([...commits].map(([partition, { offset }]) => [partition, offset]));
  const waiting = partitions
    .map(({ partition, start, end }) => ({ partition, next: Math.max(start, committed.get(partition) ?? start), end }))
    .map((each) => ({ ...each, records: Math.max(0, each.end - each.next) }))
    .filter(({ records }) => records > 0)
    .sort((a, b) => b.records - a.records);
  const ages = waiting.slice(0, PARTITIONS_LOOKED_INTO).map(async ({ partition, next }) => {
    const read = { from: next, maxRecords: 1, maxBytes: 1, maxWaitMs: READ_WAIT_MS };
    return (await log.tail(topic, partition, read))[0]?.appendTimeMs ?? Number.POSITIVE_INFINITY;
  });
  const oldest = Math.min(...(await Promise.all(ages)));
  const records = waiting.reduce((sum, each) => sum + each.records, 0);
  return { partitions, committed, records, oldestMs: Number.isFinite(oldest) ? oldest : undefined };
}

/** `members` undefined: one process, which says for itself whether it consumes. */
export async function checkConsuming(
  log: LogReader,
  kind: StoredTopic,
  members: GroupState | undefined,
): Promise<Result<Lag>> {
  const lag = await readLag(log, kind);
  return { ...judgeConsuming(lag, members, Date.now()), value: lag };
}

export function judgeConsuming(lag: Lag, members: GroupState | undefined, nowMs: number): Finding {
  const ageMs = lag.oldestMs === undefined ? undefined : Math.max(0, nowMs - lag.oldestMs);
  const wait = waitingText(lag.records, ageMs);
  if (members && members.members === 0) {
    const fix = "start `millrace consumer`; if it runs, compare its KAFKA_BROKERS and look at its log and /readyz";
    return { status: "fail", what: `no consumer is in the group; ${wait}`, fix };
  }
  if (members && members.state !== "Stable") {
    const fix = "run doctor again; if it stays so, look at the consumers' logs";
    return { status: "warn", what: `partitions are being reassigned (${members.state}); ${wait}`, fix };
  }
  const idle = members ? lag.partitions.filter(({ partition }) => !members.assigned.has(partition)) : [];
  if (idle.length > 0) {
    const names = idle.map(({ partition }) => partition).join(", ");
    return { status: "fail", what: `no member has partition ${names}; ${wait}`, fix: "restart the consumers" };
  }
  const what = members ? `${members.members} ${members.members === 1 ? "member" : "members"}, ${wait}` : wait;
  // Unknown is not 0: records that wait since nobody knows when may have waited for a day.
  if (lag.records === 0 || (ageMs !== undefined && ageMs <= LAG_WARN_MS)) return { status: "ok", what };
  return { status: "warn", what, fix: "see the checks of ClickHouse; if they are good, start more consumers" };
}

/** In the words of `millrace verify`. */
function waitingText(records: number, ageMs: number | undefined): string {
  if (records === 0) return "everything on the log is stored";
  const since = ageMs === undefined ? "since when is unknown" : `the oldest since ${Math.round(ageMs / 1000)} s`;
  return `${records} not stored yet (${since})`;
}

/** As a consumer decides on assignment whether this is the log that was stored. */
export async function checkSameLog(
  log: LogReader,
  warehouse: Warehouse,
  kind: StoredTopic,
  signal: AbortSignal,
): Promise<Finding> {
  const { topic } = kind;
  const epoch = await currentEpoch(log, warehouse, topic);
  if (epoch === undefined) {
    return { status: "fail", what: `no epoch is recorded for topic ${topic}`, fix: "run `millrace migrate`" };
  }
  const name = `epoch ${epoch.slice(0, 8)}`;
  // A log that keeps its epoch itself may stand beside what others have recorded.
  const recorded = (await log.epoch()) === undefined ? await recordedEpoch(warehouse, topic) : undefined;
  if (recorded !== undefined && recorded !== epoch) {
    const what = `${name} of a topic that was deleted and made again: what ${recorded.slice(0, 8)} had and nobody stored is lost`;
    return { status: "warn", what, fix: "none, if that was meant: consumers store it from its first record on" };
  }
  // Heads first: what is stored later would seem to be beyond the end.
  const heads = await storedHeads(warehouse, kind, epoch, signal);
  const bounds = new Map((await log.bounds(topic)).map((each) => [each.partition, each]));
  for (const [partition, head] of heads) {
    const known = bounds.get(partition) ?? { partition, start: 0, end: 0 };
    const fault = await resetFault(head, known, (offset) => appendedAt(log, topic, partition, offset));
    if (fault) return { status: "fail", what: `partition ${partition}: ${fault}`, fix: resetRemedy(kind) };
  }
  const what = heads.size === 0 ? "nothing is stored of this epoch yet" : "the last stored records are still on it";
  return { status: "ok", what: `${name}, ${what}` };
}
