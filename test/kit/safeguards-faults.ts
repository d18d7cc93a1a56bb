// Faults of ClickHouse that the safeguards are there for.
import { type InsertOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";

/** The answer is lost; whether the insert has landed is not known. */
export function closedSocket(): WarehouseError {
  return new WarehouseError("ClickHouse insert failed (ECONNRESET)", "transient");
}

export interface Cut {
  wrap(inner: Warehouse): Warehouse;
  /** Calls that met the cut. */
  readonly met: () => number;
  cut(): void;
  heal(): void;
}

/** One consumer's way to ClickHouse, which nobody else shares. */
export function createCut(): Cut {
  let isCut = false;
  let met = 0;
  async function pass<T>(call: () => Promise<T>): Promise<T> {
    if (!isCut) return call();
    met++;
    throw closedSocket();
  }
  return {
    wrap: (inner) => ({
      ...inner,
      query: (sql, options) => pass(() => inner.query(sql, options)),
      command: (sql, options) => pass(() => inner.command(sql, options)),
      insert: (options) => pass(() => inner.insert(options)),
      ping: (signal) => pass(() => inner.ping(signal)),
    }),
    met: () => met,
    cut() {
      isCut = true;
    },
    heal() {
      isCut = false;
    },
  };
}

/**
 * What a ClickHouse leaves behind that is killed between writing a token and renaming the part: the token, without the
 * rows. `epoch` must have no other rows in the table.
 */
export async function keepTokenOnly(warehouse: Warehouse, insertion: InsertOptions, epoch: string): Promise<void> {
  await warehouse.insert(insertion);
  await warehouse.command(
    `ALTER TABLE ${insertion.table} DELETE WHERE log_epoch = {epoch:String} SETTINGS mutations_sync = 2`,
    { params: { epoch } },
  );
}
