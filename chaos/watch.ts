// What an onlooker sees while the run goes on: how much is stored, how long nothing was, how soon all is well again.
import { setTimeout as sleep } from "node:timers/promises";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { patience } from "../test/kit/patience.ts";
import { countRows } from "./audit.ts";
import type { Cluster } from "./cluster.ts";
import type { Load } from "./load.ts";

export interface Watch {
  /** Rows at the last look. */
  readonly stored: number;
  /** Longest time without a new row while there was something to store and no fault in force. */
  readonly longestStallSeconds: number;
  /** Longest time from the end of the last fault in force until all that was acknowledged by then was stored. */
  readonly worstRecoverySeconds: number;
  /** To be told of each fault's beginning and end. */
  faultsChanged(active: number): void;
  stop(): void;
}

const POLL_MS = 250;
const QUERY_SECONDS_MAX = 5;

export function startWatch({ warehouse }: Cluster, load: Load): Watch {
  let isStopped = false;
  let active = 0;
  let stored = 0;
  let storedAt = performance.now();
  let longestStallMs = 0;
  let worstRecoveryMs = 0;
  let recovery: { since: number; acked: number } | undefined;

  function note(rows: number): void {
    const now = performance.now();
    if (rows > stored || rows >= load.acked.size || active > 0) storedAt = now;
    longestStallMs = Math.max(longestStallMs, now - storedAt);
    stored = rows;
    if (!recovery) return;
    worstRecoveryMs = Math.max(worstRecoveryMs, now - recovery.since);
    if (rows >= recovery.acked) recovery = undefined;
  }

  async function watch(): Promise<void> {
    while (!isStopped) {
      try {
        note(await countRows(warehouse, QUERY_SECONDS_MAX));
      } catch (error) {
        if (!(error instanceof WarehouseError)) throw error;
        // ClickHouse is away, by a fault: nothing new is known, and that counts as nothing stored.
        note(stored);
      }
      await sleep(POLL_MS);
    }
  }
  void watch();

  return {
    get stored() {
      return stored;
    },
    get longestStallSeconds() {
      return longestStallMs / 1000;
    },
    get worstRecoverySeconds() {
      return worstRecoveryMs / 1000;
    },
    faultsChanged(count) {
      // The next fault came before all was well: what follows is its doing as well.
      if (count > active) recovery = undefined;
      else if (count === 0) recovery = { since: performance.now(), acked: load.acked.size };
      active = count;
    },
    stop() {
      isStopped = true;
    },
  };
}

const DRAIN_MS_MAX = 120_000;

/**
 * Resolves when every record on the log is committed by the group and no range is in flight. Rejects with what is left
 * when that takes longer than two minutes.
 */
export async function drained({ log }: Cluster, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + patience(DRAIN_MS_MAX);
  async function undrained(): Promise<string[]> {
    const committed = await log.committed(EVENTS_TOPIC, CONSUMER_GROUP);
    return (await log.bounds(EVENTS_TOPIC)).flatMap(({ partition, start, end }) => {
      const commit = committed.get(partition);
      const isDone = end === start || (commit?.offset === end && !commit.metadata.includes('"to"'));
      return isDone ? [] : [`${partition}: ${commit?.offset ?? "nothing"} of ${end} ${commit?.metadata ?? ""}`.trim()];
    });
  }
  for (;;) {
    signal.throwIfAborted();
    // The brokers may be away by a fault of their own.
    const open = await undrained().catch((error: unknown) => {
      if (error instanceof LogUnavailableError) return [error.message];
      throw error;
    });
    if (open.length === 0) return;
    if (performance.now() > deadline) {
      throw new Error(`not drained in ${patience(DRAIN_MS_MAX) / 1000} s; committed by partition: ${open.join(", ")}`);
    }
    await sleep(500, undefined, { signal });
  }
}
