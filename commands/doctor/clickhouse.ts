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
export async function checkAsyncInsert(warehouse: Warehouse, signal: AbortSignal): Promise<Finding> {
  const [row] = await warehouse.query<{ value: string; readonly: number }>(
    "SELECT value, readonly FROM system.settings WHERE name = 'async_insert'",
    { signal },
  );
  if (row?.value !== "1") return { status: "ok", what: "off for this account" };
  if (Number(row.readonly) === 0) return { status: "ok", what: "on by default, and off in every insert of Millrace" };
  return {
    status: "fail",
    what: "on, and this account may not switch it off: rows are acknowledged before they are stored",
    fix: "take the constraint on async_insert out of the account's profile",
  };
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
