// Keeps log_progress: where to start when the group's commits are gone. Behind by up to an interval, never ahead.
import type { Logger } from "pino";
import type { RowOrigin } from "#lib/events/row.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

const INTERVAL_MS = 10_000;
const COLUMNS = ["log_epoch", "log_topic", "log_partition", "next_offset"];

export interface ProgressKeeper extends AsyncDisposable {
  note(origin: RowOrigin, next: number): void;
}

/** Disposing writes what is left; a failure costs nothing but a longer look back later. */
export function createProgressKeeper(warehouse: Warehouse, logger: Logger): ProgressKeeper {
  const moved = new Map<string, unknown[]>();
  let writing: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    if (moved.size === 0) return;
    const rows = [...moved.values()];
    moved.clear();
    try {
      await warehouse.insert({
        table: "log_progress",
        columns: COLUMNS,
        rows: Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
        token: JSON.stringify(rows),
      });
    } catch (error) {
      logger.warn({ err: error }, "progress not kept; it is tried again when a partition has moved on");
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
