// An INSERT whose rows are counted. chdb counts them for inserts of bytes only; its addon takes any INSERT in that call.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Session } from "chdb";

interface Addon {
  InsertRawAsyncConnection(
    connection: unknown,
    sql: string,
    rows: Buffer,
    countLines: boolean,
  ): Promise<{ rowsWritten: number; bytesWritten: number; elapsed: number }>;
}

let addon: Addon | undefined;

/** Runs INSERT … VALUES or INSERT … SELECT in the session. */
export async function insertCounted(session: Session, sql: string) {
  const require = createRequire(import.meta.url);
  // Not exported by the package, whose version is therefore fixed.
  addon ??= require(join(dirname(require.resolve("chdb")), "dist/loader.js")).loadNative() as Addon;
  const { connection } = session as unknown as { connection: unknown };
  const { rowsWritten, bytesWritten, elapsed } = await addon.InsertRawAsyncConnection(
    connection,
    sql,
    Buffer.alloc(0),
    false,
  );
  return { rows: rowsWritten, bytes: bytesWritten, seconds: elapsed };
}
