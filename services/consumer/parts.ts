// How close a table is to too many parts, asked every other second while rows are inserted. ClickHouse slows inserts down,
// and then refuses them, by the active parts of one partition of a table; merges make them fewer.
import type { Logger } from "#lib/process/log.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";
import type { BatchWaits } from "./batch-wait.ts";

const INTERVAL_MS = 2000;
const QUERY_SECONDS = 5;

/** A table may have a threshold of its own. */
const PARTS_SHARE_SQL = `WITH
    (SELECT toUInt64(value) FROM system.merge_tree_settings WHERE name = 'parts_to_delay_insert') AS usual,
    (SELECT max(toUInt64OrZero(extract(engine_full, 'parts_to_delay_insert = (\\\\d+)'))) FROM system.tables
     WHERE database = currentDatabase() AND name = {table:String}) AS own
  SELECT max(parts) / if(own > 0, own, usual) AS share FROM (
    SELECT count() AS parts FROM system.parts
    WHERE active AND database = currentDatabase() AND table = {table:String} GROUP BY partition)`;

export interface PartsDeps {
  /** Not behind the breaker: an account that may not ask this can insert all the same. */
  warehouse: Warehouse;
  tables: readonly string[];
  waits: BatchWaits;
  logger: Logger;
}

/** The fullest of all tables and shards. */
export async function askPartsShare(
  { warehouse, tables }: Pick<PartsDeps, "warehouse" | "tables">,
  signal: AbortSignal,
): Promise<number> {
  const asked = shardsOf(warehouse).flatMap((shard) =>
    tables.map((table) =>
      shard.query<{ share: number | null }>(PARTS_SHARE_SQL, {
        ...{ params: { table }, maxSeconds: QUERY_SECONDS, signal },
      }),
    ),
  );
  const answers = await Promise.all(asked);
  return Math.max(0, ...answers.map(([row]) => row?.share ?? 0));
}

/** Disposing ends the asking. */
export function watchParts(deps: PartsDeps): Disposable {
  const stopped = new AbortController();
  let isAsking = false;

  async function ask(): Promise<void> {
    isAsking = true;
    try {
      deps.waits.partsShare = await askPartsShare(deps, stopped.signal);
    } catch (error) {
      deps.waits.partsShare = undefined;
      if (!stopped.signal.aborted) deps.logger.debug({ err: error }, "the number of parts is not known");
    } finally {
      isAsking = false;
    }
  }

  const timer = setInterval(() => {
    if (!isAsking && deps.waits.hasInserted()) void ask();
  }, INTERVAL_MS);
  timer.unref();
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      stopped.abort();
    },
  };
}
