// Notes in verify_runs what a run found, for `millrace status`. The proof is what is printed: it does not depend on this.
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { sumsOf } from "./report.ts";
import { type Finding, isSound } from "./verify.ts";

const COLUMNS = ["ended_at", "accounted", "not_stored", "missing", "doubled", "is_sound"];
const WRITE_MS_MAX = 5_000;

/** An account that may only read, or a table that is not there yet, is no fault of the run. */
export async function noteRun(warehouse: Warehouse, findings: readonly Finding[], nowMs: number): Promise<void> {
  const { accounted, notStored, missing, doubled } = sumsOf(findings);
  const endedAt = new Date(nowMs).toISOString();
  const row = [endedAt, accounted, notStored, missing, doubled, findings.every(isSound)];
  try {
    await warehouse.insert({
      ...{ table: "verify_runs", columns: COLUMNS, rows: Buffer.from(`${JSON.stringify(row)}\n`), token: endedAt },
      signal: AbortSignal.timeout(WRITE_MS_MAX),
    });
  } catch (error) {
    if (!(error instanceof WarehouseError) && !(error instanceof DOMException)) throw error;
  }
}
