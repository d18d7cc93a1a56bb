// How far each topic is: what came in, what is stored, what waits. Measured from log and commits, which go on telling it
// while ClickHouse is away.
import type { Commit, LogReader } from "#lib/eventlog/log.ts";
import { type BatchWait, decodeCommit } from "#lib/ledger/marker.ts";
import { appendedAt } from "#lib/ledger/same-log.ts";
import type { StoredTopic } from "#lib/ledger/stored-topics.ts";

export interface PartitionFlow {
  partition: number;
  end: number;
  next: number;
}

export interface TopicFlow {
  topic: string;
  partitions: PartitionFlow[];
  end: number;
  next: number;
  waiting: number;
  /** When the log took the oldest record that waits; undefined when none does, or the log does not say. */
  oldestWaitingMs: number | undefined;
  inPerSecond: number | undefined;
  storedPerSecond: number | undefined;
  /** Since when records wait and the consumer has not moved; undefined while it moves or nothing waits. */
  stuckSinceMs: number | undefined;
  /** As the consumer said with its last commits; of its partitions the longest. */
  batchWait: BatchWait | undefined;
}

interface Sample {
  atMs: number;
  end: number;
  next: number;
}

const SAMPLES_MS = 10_000;

export interface FlowMeter {
  /** Rejects with LogUnavailableError. */
  measure(nowMs: number): Promise<TopicFlow>;
}

export function createFlowMeter(log: LogReader, { topic, group }: StoredTopic): FlowMeter {
  let samples: Sample[] = [];
  let moved: { next: number; atMs: number } | undefined;
  let oldest: { key: string; ms: number | undefined } | undefined;

  /** Asked once for each place where the consumer stands. */
  async function oldestOf(partitions: readonly PartitionFlow[]): Promise<number | undefined> {
    const behind = partitions.filter(({ next, end }) => next < end);
    if (behind.length === 0) return undefined;
    const key = behind.map(({ partition, next }) => `${partition}:${next}`).join();
    if (oldest?.key !== key || oldest.ms === undefined) {
      const times = await Promise.all(behind.map(({ partition, next }) => appendedAt(log, topic, partition, next)));
      const known = times.filter((time) => time !== undefined);
      oldest = { key, ms: known.length === 0 ? undefined : Math.min(...known) };
    }
    return oldest.ms;
  }

  function ratesOf(sample: Sample): { inPerSecond?: number; storedPerSecond?: number } {
    samples = [...samples, sample];
    // One that is older than the time looked at stays, so that all of that time is covered.
    while (samples[1] && samples[1].atMs <= sample.atMs - SAMPLES_MS) samples.shift();
    const first = samples[0] as Sample;
    const seconds = (sample.atMs - first.atMs) / 1000;
    // A log that was reset begins again at 0.
    if (sample.end < first.end || sample.next < first.next) samples = [sample];
    if (seconds < 1 || samples.length === 1) return {};
    return { inPerSecond: (sample.end - first.end) / seconds, storedPerSecond: (sample.next - first.next) / seconds };
  }

  return {
    async measure(nowMs) {
      // Commits first: a record stored meanwhile then counts as waiting, never the other way round.
      const committed = await log.committed(topic, group);
      const bounds = await log.bounds(topic);
      const partitions = bounds.map(({ partition, start, end }) => {
        const next = Math.min(end, Math.max(start, committed.get(partition)?.offset ?? start));
        return { partition, end, next };
      });
      const end = partitions.reduce((sum, each) => sum + each.end, 0);
      const next = partitions.reduce((sum, each) => sum + each.next, 0);
      if (moved?.next !== next || end === next) moved = { next, atMs: nowMs };
      const { inPerSecond, storedPerSecond } = ratesOf({ atMs: nowMs, end, next });
      const since = moved.atMs;
      const oldestWaitingMs = await oldestOf(partitions);
      return {
        ...{ topic, partitions, end, next, waiting: end - next, inPerSecond, storedPerSecond, oldestWaitingMs },
        batchWait: longestWait([...committed.values()]),
        stuckSinceMs: end > next ? Math.max(since, oldestWaitingMs ?? since) : undefined,
      };
    },
  };
}

function longestWait(commits: readonly Commit[]): BatchWait | undefined {
  const waits = commits.map((commit) => decodeCommit(commit)?.wait).filter((wait) => wait !== undefined);
  return waits.sort((a, b) => b.ms - a.ms)[0];
}
