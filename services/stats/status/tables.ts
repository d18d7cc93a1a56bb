// What ClickHouse says for the status: newest rows, dead letters, disks, versions.
import { STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { shardsOf, type Warehouse } from "#lib/warehouse/warehouse.ts";

export interface TablesState {
  version: string;
  schema: string;
  letters: { total: number; lastHour: number; newestClass: string; newestMs: number } | undefined;
  /** The last run of `millrace verify`. */
  verify: { atMs: number; isSound: boolean; notStored: number; missing: number; doubled: number } | undefined;
}

const SECONDS_MAX = 3;
/** An exbibyte. */
const UNLIMITED_BYTES_MIN = 2n ** 60n;

export interface WarehouseDisk {
  name: string;
  free: number;
  total: number;
}

/**
 * Of each storage policy that the database's tables have, the disk with the most room: while that takes parts, rows are stored.
 * Disks that do not say how large they are, as object storage, are left out. Rejects also where the account may not look.
 */
export async function readDisks(warehouse: Warehouse, signal: AbortSignal): Promise<WarehouseDisk[]> {
  const rows = await warehouse.query<{ name: string; free: string; total: string }>(
    `SELECT DISTINCT roomiest.1 AS name, toString(roomiest.2) AS free, toString(roomiest.3) AS total
     FROM (
       SELECT argMax((d.name, d.free_space, d.total_space), d.free_space) AS roomiest
       FROM (SELECT policy_name, arrayJoin(disks) AS disk FROM system.storage_policies) AS p
       JOIN system.disks AS d ON d.name = p.disk
       WHERE policy_name IN (SELECT storage_policy FROM system.tables WHERE database = currentDatabase())
       GROUP BY policy_name
     )
     WHERE roomiest.3 BETWEEN 1 AND ${UNLIMITED_BYTES_MIN} ORDER BY name`,
    { signal, maxSeconds: SECONDS_MAX },
  );
  return rows.map(({ name, free, total }) => ({
    ...{ name: `clickhouse:${name}`, free: Number(free), total: Number(total) },
  }));
}

/** When the log took the newest row, by topic; a topic without rows is absent. Proves that ClickHouse answers. */
export async function newestRows(warehouse: Warehouse, signal: AbortSignal): Promise<Map<string, number>> {
  const newest = new Map<string, number>();
  const selects = STORED_TOPICS.map(
    ({ topic, table }) =>
      `SELECT '${topic}' AS topic, toString(toUnixTimestamp64Milli(max(log_time))) AS ms, count() AS n FROM ${table.name} HAVING n > 0`,
  );
  const ofShards = await Promise.all(
    shardsOf(warehouse).map((shard) =>
      shard.query<{ topic: string; ms: string }>(selects.join(" UNION ALL "), { signal, maxSeconds: SECONDS_MAX }),
    ),
  );
  for (const { topic, ms } of ofShards.flat()) newest.set(topic, Math.max(Number(ms), newest.get(topic) ?? 0));
  return newest;
}

export async function readTables(warehouse: Warehouse, signal: AbortSignal): Promise<TablesState> {
  const ask = <Row>(sql: string) => warehouse.query<Row>(sql, { signal, maxSeconds: SECONDS_MAX });
  const [versions, letters, [run]] = await Promise.all([
    ask<{ version: string; schema: string }>(
      "SELECT version() AS version, (SELECT max(filename) FROM schema_migrations) AS schema",
    ),
    readLetters(warehouse, signal),
    // The table may be of a later version than this database.
    ask<Record<"at" | "waiting" | "missing" | "doubled", string> & { sound: boolean }>(
      `SELECT toString(toUnixTimestamp64Milli(ended_at)) AS at, toString(not_stored) AS waiting, toString(missing) AS missing,
         toString(doubled) AS doubled, is_sound AS sound FROM verify_runs ORDER BY ended_at DESC LIMIT 1`,
    ).catch(() => []),
  ]);
  return {
    version: versions[0]?.version ?? "",
    schema: (versions[0]?.schema ?? "").slice(0, 4),
    letters,
    verify: run && {
      ...{ atMs: Number(run.at), isSound: run.sound, notStored: Number(run.waiting) },
      ...{ missing: Number(run.missing), doubled: Number(run.doubled) },
    },
  };
}

async function readLetters(warehouse: Warehouse, signal: AbortSignal): Promise<TablesState["letters"]> {
  const ofShards = await Promise.all(
    shardsOf(warehouse).map((shard) =>
      shard.query<Record<"total" | "hour" | "class" | "newest", string>>(
        `SELECT toString(count()) AS total, toString(countIf(log_time > now() - 3600)) AS hour,
           argMax(error_class, log_time) AS class, toString(toUnixTimestamp64Milli(max(log_time))) AS newest
         FROM dead_letters`,
        { signal, maxSeconds: SECONDS_MAX },
      ),
    ),
  );
  const rows = ofShards.flat().filter(({ total }) => Number(total) > 0);
  const newest = rows.sort((a, b) => Number(b.newest) - Number(a.newest))[0];
  const sum = (field: "total" | "hour") => rows.reduce((all, row) => all + Number(row[field]), 0);
  return (
    newest && { total: sum("total"), lastHour: sum("hour"), newestClass: newest.class, newestMs: Number(newest.newest) }
  );
}
