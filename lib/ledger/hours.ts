// Keeps log_hours: the first offset of each hour of the log, written before the rows of that hour, so that an audit knows
// what must be there when the log no longer has it.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

const HOUR_MS = 3_600_000;
const COLUMNS = ["log_epoch", "log_topic", "log_partition", "hour", "first_offset"];

export interface HourKeeper {
  /**
   * To be called before the records are stored. Rejects with WarehouseError; a second call with the same records writes
   * again, which changes nothing.
   */
  note(records: readonly StoredRecord[]): Promise<void>;
}

/** Of one partition. It writes once an hour, and once when the partition has come to this process. */
export function createHourKeeper(warehouse: Warehouse, { epoch, topic, partition }: RowOrigin): HourKeeper {
  let noted = Number.NEGATIVE_INFINITY;
  const hourOf = ({ appendTimeMs }: StoredRecord) => Math.floor(appendTimeMs / HOUR_MS);

  return {
    async note(records) {
      const last = records.at(-1);
      // Append times do not decrease, but for a step back of the broker's clock, which costs nothing here.
      if (last === undefined || hourOf(last) <= noted) return;
      const firsts = new Map<number, number>();
      for (const record of records) {
        const hour = hourOf(record);
        if (hour > noted && !firsts.has(hour)) firsts.set(hour, record.offset);
      }
      const rows = [...firsts].map(([hour, offset]) => [epoch, topic, partition, hour * (HOUR_MS / 1000), offset]);
      await warehouse.insert({
        table: "log_hours",
        columns: COLUMNS,
        rows: Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join("")),
        token: JSON.stringify(rows),
      });
      noted = Math.max(noted, ...firsts.keys());
    },
  };
}
