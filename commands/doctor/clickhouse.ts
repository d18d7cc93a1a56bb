// ClickHouse itself: there, the right version and account, its clock, its disks, its defaults.
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Finding, Result } from "./probe.ts";

export interface Server {
  version: string;
  /** Its clock minus ours, milliseconds, give or take `uncertainMs`. */
  clockSkewMs: number;
  uncertainMs: number;
}

/** `warehouse` is of a database that always exists. */
export async function checkServer(warehouse: Warehouse, url: string, signal: AbortSignal): Promise<Result<Server>> {
  const sentMs = Date.now();
  const [row] = await warehouse.query<{ version: string; ms: string }>(
    "SELECT version() AS version, toString(toUnixTimestamp64Milli(now64(3))) AS ms",
    { signal },
  );
  const receivedMs = Date.now();
  if (!row) throw new Error("ClickHouse answered a SELECT with no row");
  const { version, ms } = row;
  const clock = { clockSkewMs: Number(ms) - (sentMs + receivedMs) / 2, uncertainMs: (receivedMs - sentMs) / 2 };
  return { status: "ok", what: `${version} at ${url}, which knows the account`, value: { version, ...clock } };
}

/** Millrace's inserts say async_insert=0: only then is an acknowledged row a stored one. */
/** What every insert of Millrace sets for itself; what goes wrong where an account may not. */
const INSERT_SETTINGS = new Map([
  ["async_insert", { wanted: "0", harm: "rows are acknowledged before they are stored" }],
  ["insert_deduplicate", { wanted: "1", harm: "a repeated insert doubles its rows" }],
  ["deduplicate_insert", { wanted: "enable", harm: "a repeated insert doubles its rows" }],
]);

export async function checkInsertSettings(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const rows = await warehouse.query<InsertSetting>(
    "SELECT name, value, readonly FROM system.settings WHERE name IN {names:Array(String)} ORDER BY name",
    { params: { names: [...INSERT_SETTINGS.keys()] }, signal },
  );
  return judgeInsertSettings(rows);
}

export interface InsertSetting {
  name: string;
  value: string;
  readonly: number;
}

export function judgeInsertSettings(rows: readonly InsertSetting[]): Finding {
  const other = rows.filter(({ name, value }) => INSERT_SETTINGS.get(name)?.wanted !== value);
  const fixed = other.find(({ readonly }) => Number(readonly) !== 0);
  if (fixed) {
    return {
      status: "fail",
      what: `${fixed.name} is ${fixed.value}, and this account may not change it: ${INSERT_SETTINGS.get(fixed.name)?.harm}`,
      fix: `take the constraint on ${fixed.name} out of the account's profile`,
    };
  }
  if (other.length === 0) return { status: "ok", what: "as Millrace's inserts need them" };
  return { status: "ok", what: `${other.map(({ name }) => name).join(", ")}: set by every insert of Millrace` };
}

const GIB = 1024 ** 3;
const FREE_BYTES_FAIL = GIB;
const FREE_BYTES_WARN = 20 * GIB;
const FREE_SHARE_WARN = 0.1;

export interface DiskSpace {
  name: string;
  freeBytes: number;
  totalBytes: number;
}

export async function checkDisks(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const rows = await warehouse.query<{ name: string; path: string; free: string; total: string }>(
    "SELECT name, path, toString(unreserved_space) AS free, toString(total_space) AS total FROM system.disks",
    { signal },
  );
  return judgeDisks(
    rows.map(({ name, path, free, total }) => {
      return { name: `disk ${name} (${path})`, freeBytes: Number(free), totalBytes: Number(total) };
    }),
  );
}

export function judgeDisks(disks: readonly DiskSpace[]): Finding {
  const fullest = [...disks].sort((a, b) => a.freeBytes - b.freeBytes)[0];
  if (!fullest) return { status: "skip", what: "the server lists no disk" };
  const { name, freeBytes, totalBytes } = fullest;
  const what = `${(freeBytes / GIB).toFixed(1)} GiB of ${(totalBytes / GIB).toFixed(1)} free on ${name}`;
  const fix = "free space, make the disk larger, or shorten EVENTS_RETENTION";
  if (freeBytes < FREE_BYTES_FAIL) return { status: "fail", what, fix };
  const isLow = freeBytes < FREE_BYTES_WARN && freeBytes < totalBytes * FREE_SHARE_WARN;
  return isLow ? { status: "warn", what, fix } : { status: "ok", what };
}

export async function checkDeadLetters(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const rows = await warehouse.query<{ class: string; n: string }>(
    `SELECT error_class AS class, toString(count()) AS n FROM dead_letters
     WHERE log_time > now() - INTERVAL 1 HOUR GROUP BY class ORDER BY count() DESC, class LIMIT 5`,
    { signal },
  );
  if (rows.length === 0) return { status: "ok", what: "none arrived in the last hour" };
  const classes = rows.map((row) => `${row.n} ${row.class}`).join(", ");
  const fix = "`millrace dead-letters ls` shows them, `millrace dead-letters replay` puts them on the log again";
  return { status: "warn", what: `arrived in the last hour: ${classes}`, fix };
}
