// Where log, group and tables stand: who consumes, how far behind, and whether the log is still the one that was stored.
import type { GroupState } from "#lib/eventlog/kafka/inspection.ts";
import type { LogReader, PartitionBounds } from "#lib/eventlog/log.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";
import { readEpoch } from "#lib/warehouse/epochs.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
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
  const ageMs = lag.oldestMs === undefined ? 0 : Math.max(0, nowMs - lag.oldestMs);
  const wait =
    lag.records === 0 ? "nothing waits" : `${lag.records} records wait, ${Math.round(ageMs / 1000)} s at most`;
  if (members && members.members === 0) {
    const fix = "start `millrace consumer`; if it runs, compare its KAFKA_BROKERS and look at its log and /readyz";
    return { status: "fail", what: `no consumer is in the group; ${wait}`, fix };
  }
  if (members && members.state !== "Stable") {
    const fix = "run doctor again; if it stays so, look at the consumers' logs";
    return { status: "warn", what: `partitions are being dealt anew (${members.state}); ${wait}`, fix };
  }
  const idle = members ? lag.partitions.filter(({ partition }) => !members.assigned.has(partition)) : [];
  if (idle.length > 0) {
    const names = idle.map(({ partition }) => partition).join(", ");
    return { status: "fail", what: `no member has partition ${names}; ${wait}`, fix: "restart the consumers" };
  }
  const what = members ? `${members.members} members, ${wait}` : wait;
  if (ageMs <= LAG_WARN_MS) return { status: "ok", what };
  return { status: "warn", what, fix: "see the checks of ClickHouse; if they are good, start more consumers" };
}

/** As a consumer decides on assignment whether this is the log that was stored (services/consumer/partition.ts). */
export async function checkSameLog(
  log: LogReader,
  warehouse: Warehouse,
  kind: StoredTopic,
  signal: AbortSignal,
): Promise<Finding> {
  const { topic } = kind;
  const epoch = (await log.epoch()) ?? (await readEpoch(warehouse, topic));
  if (epoch === undefined) {
    const fix = "run `millrace migrate`, then restart the consumers";
    return { status: "fail", what: `no epoch is recorded for topic ${topic}`, fix };
  }
  // Heads first: what is stored later would seem to be beyond the end.
  const heads = await readHeads(warehouse, kind, epoch, signal);
  const bounds = new Map((await log.bounds(topic)).map((each) => [each.partition, each]));
  const fix = `if the topic was deleted or made again, run \`millrace migrate ${kind.newEpochFlag}\` and restart the consumers; if the log was restored from a backup, restore ClickHouse with it`;
  for (const { partition, offset, appendTimeMs } of heads) {
    const { start, end } = bounds.get(partition) ?? { start: 0, end: 0 };
    const where = `partition ${partition}: offset ${offset} is stored`;
    if (end <= offset) {
      return { status: "fail", what: `${where}, and the log ends at ${end}: the log was reset`, fix };
    }
    if (offset < start) continue;
    const read = { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: READ_WAIT_MS };
    const [record] = await log.tail(topic, partition, read);
    if (record?.appendTimeMs !== appendTimeMs) {
      return { status: "fail", what: `${where}, and the log has another record there: it was reset and refilled`, fix };
    }
  }
  const what = heads.length === 0 ? "nothing is stored of this epoch yet" : "the last stored records are still on it";
  return { status: "ok", what: `epoch ${epoch.slice(0, 8)}, ${what}` };
}

interface Head {
  partition: number;
  offset: number;
  appendTimeMs: number;
}

/** The highest stored offset of each partition. Looks from the noted progress upwards: below it all is accounted for. */
async function readHeads(
  warehouse: Warehouse,
  { topic, table }: StoredTopic,
  epoch: string,
  signal: AbortSignal,
): Promise<Head[]> {
  const select = (from: string) =>
    `SELECT log_partition AS p, log_offset AS o, toUnixTimestamp64Milli(log_time) AS t FROM ${from}
     WHERE log_epoch = {epoch:String} AND log_topic = {topic:String}
       AND log_offset + 1 >= transform(log_partition, {partitions:Array(UInt32)}, {nexts:Array(UInt64)}, toUInt64(0))`;
  const progress = await warehouse.query<{ p: number; next: string }>(
    `SELECT log_partition AS p, toString(max(next_offset)) AS next FROM log_progress
     WHERE log_epoch = {epoch:String} AND log_topic = {topic:String} GROUP BY p`,
    { params: { epoch, topic }, signal },
  );
  const [partitions, nexts] = [progress.map(({ p }) => Number(p)), progress.map(({ next }) => Number(next))];
  const ofShards = shardsOf(warehouse).map((shard) =>
    shard.query<{ p: number; head: string; ms: string }>(
      `SELECT p, toString(max(o)) AS head, toString(argMax(t, o)) AS ms
       FROM (${select(table.name)} UNION ALL ${select("log_outcomes")}) GROUP BY p ORDER BY p`,
      { params: { epoch, topic, partitions, nexts }, signal },
    ),
  );
  const rows = (await Promise.all(ofShards)).flat();
  return rows.map(({ p, head, ms }) => ({ partition: Number(p), offset: Number(head), appendTimeMs: Number(ms) }));
}
