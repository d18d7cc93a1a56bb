// Is a record at fault that ClickHouse refuses, or the table? A table that was changed refuses every record,
// and to dead-letter them all would be to lose them slowly. A refused record is given up only if
//
//   a row after it, in the same batch, is taken, and then it is refused again; or
//   no row follows to tell, fewer than REFUSED_MAX records in a row were refused, and it is refused again.
//
// Otherwise the partition waits, and tries again until it succeeds. The rule knows no time and no memory of the process:
// a replay, which finds the same outcomes in ClickHouse, decides the same.
import type { StoredRecord } from "#lib/eventlog/log.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { REFUSED_CLASS } from "#lib/ledger/stored.ts";
import type { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { TableRefusesError } from "./halted.ts";
import type { Refusal } from "./prepare.ts";

/** So many refused in a row, with not one accepted, are no coincidence. */
export const REFUSED_MAX = 16;

/** Consecutive records that were refused one by one and are not decided yet. Nothing of them is stored. */
export interface Suspects {
  readonly records: readonly StoredRecord[];
  /** By offset. */
  readonly refusals: ReadonlyMap<number, Refusal>;
  /** Throws TableRefusesError when they become too many to be coincidence. */
  add(record: StoredRecord, error: WarehouseError): void;
  /** Decides without a row to tell; rejects with TableRefusesError when it is the table. */
  convict(): Promise<void>;
  /** They are decided and stored. */
  clear(): void;
}

/** `refusedBefore`: records refused in a row just before this offset. */
export function createSuspects(origin: RowOrigin, refusedBefore: (offset: number) => Promise<number>): Suspects {
  let records: StoredRecord[] = [];
  const refusals = new Map<number, Refusal>();
  let last: WarehouseError | undefined;

  function refuseTable(count: number): never {
    throw tableRefuses(origin, records[0]?.offset ?? 0, last as WarehouseError, `${count} records in a row`);
  }
  return {
    get records() {
      return records;
    },
    refusals,
    add(record, error) {
      records.push(record);
      last = error;
      refusals.set(record.offset, refusalOf(error));
      // A single row in too many partitions cannot be: whatever that is, it is not the row.
      if (records.length >= REFUSED_MAX || error.kind !== "rejected") refuseTable(records.length);
    },
    async convict() {
      const [first] = records;
      if (!first) return;
      const count = records.length + (await refusedBefore(first.offset));
      if (count >= REFUSED_MAX) refuseTable(count);
    },
    clear() {
      records = [];
      refusals.clear();
    },
  };
}

/** The error with which a partition waits; `what` is what ClickHouse refuses. */
export function tableRefuses(origin: RowOrigin, from: number, error: WarehouseError, what: string): TableRefusesError {
  return new TableRefusesError(
    `${origin.topic}/${origin.partition}: from offset ${from} on ClickHouse refuses ${what} (code ${error.code}: ` +
      `${refusalOf(error).error.slice(0, 300)}): the table is at fault, not the records, so the partition waits and tries ` +
      "again; run `millrace migrate`, or take back what was changed by hand (a column, a constraint, a materialized view)",
    from,
    { cause: error },
  );
}

function refusalOf(error: WarehouseError): Refusal {
  const { cause } = error;
  return {
    errorClass: `${REFUSED_CLASS}${error.code ?? "refused"}`,
    error: cause instanceof Error ? cause.message : error.message,
  };
}
