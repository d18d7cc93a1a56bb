// Faults of ClickHouse that the safeguards are there for.
import { type InsertOptions, type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";

/** The answer is lost; whether the insert has landed is not known. */
export function closedSocket(): WarehouseError {
  return new WarehouseError("ClickHouse insert failed (ECONNRESET)", "transient");
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
