// Keeps log_progress: where to start when the group's commits are gone. Behind by up to an interval, never ahead.

import type { RowOrigin } from "#lib/events/row.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

const INTERVAL_MS = 10_000;
/** A ClickHouse that hangs must not hold up a process that is to stop. */
const WRITE_MS_MAX = 3000;
const COLUMNS = ["log_epoch", "log_topic", "log_partition", "next_offset"];

/** First offset not known to be accounted for, as `next`, by partition `p`. Parameters: epoch and topic. */
export const PROGRESS_OF_LOG = `SELECT log_partition AS p, toString(max(next_offset)) AS next FROM log_progress
  WHERE log_epoch = {epoch:String} AND log_topic = {topic:String} GROUP BY p`;

export interface ProgressKeeper extends AsyncDisposable {
  note(origin: RowOrigin, next: number): void;
}

/** Disposing writes what is left; a failure costs nothing but a longer look back later. */
export function createProgressKeeper(warehouse: Warehouse, logger: Logger): ProgressKeeper {
  const moved = new Map<string, unknown[]>();
  let writing: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    if (moved.size === 0) return;
    const written = [...moved];
    const rows = written.map(([, row]) => row);
    try {
      await warehouse.insert({
        table: "log_progress",
        columns: COLUMNS,
        rows: Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
        token: JSON.stringify(rows),
        signal: AbortSignal.timeout(WRITE_MS_MAX),
      });
      // What moved on meanwhile is another row, and stays.
      for (const [name, row] of written) if (moved.get(name) === row) moved.delete(name);
    } catch (error) {
      logger.warn({ err: error }, "progress not kept, trying again later");
    }
  }

  const timer = setInterval(() => {
    writing = writing.then(write);
  }, INTERVAL_MS);
  return {
    note({ epoch, topic, partition }, next) {
      moved.set(`${epoch} ${topic} ${partition}`, [epoch, topic, partition, next]);
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await writing.then(write);
    },
  };
}
