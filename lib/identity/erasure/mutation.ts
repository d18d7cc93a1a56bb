// Deletions, waited for. A deletion rewrites parts and can take longer than one statement may, so it is only begun by its
// statement, and what ClickHouse says about its progress is asked again and again.
import { setTimeout as pause } from "node:timers/promises";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

/** The most that the standalone's endpoint allows. */
export const STATEMENT_SECONDS_MAX = 600;

const LOOK_MS_MIN = 10;
const LOOK_MS_MAX = 1000;

/** ClickHouse cannot carry a deletion out and keeps trying; the message has its reason. */
export class DeletionFailedError extends Error {
  override readonly name = "DeletionFailedError";
}

/** `statement` is one that changes `table` and does not wait. Rejects with DeletionFailedError or WarehouseError. */
export async function mutate(
  warehouse: Warehouse,
  table: string,
  statement: string,
  params: Record<string, unknown> = {},
): Promise<void> {
  await warehouse.command(statement, { params, maxSeconds: STATEMENT_SECONDS_MAX });
  for (let lookMs = LOOK_MS_MIN; ; lookMs = Math.min(lookMs * 2, LOOK_MS_MAX)) {
    const [left] = await warehouse.query<{ n: string; reason: string }>(
      `SELECT count() AS n, max(latest_fail_reason) AS reason FROM system.mutations
       WHERE database = {database:String} AND table = {table:String} AND NOT is_done`,
      { params: { database: warehouse.database, table } },
    );
    if (Number(left?.n ?? 0) === 0) return;
    if (left?.reason)
      throw new DeletionFailedError(`ClickHouse cannot change ${table} and keeps trying: ${left.reason}`);
    await pause(lookMs);
  }
}
