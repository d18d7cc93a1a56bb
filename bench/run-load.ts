// Runs the load generator as a process of its own and collects what it reports.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LoadOrder, LoadResult } from "./load.ts";

/** For preparing the bodies, and for answers that take until the gateway's own time limits. */
const GRACE_MS = 60_000;

/**
 * Runs one load in a process of its own. Rejects when that process fails, is late, or `signal` fires. `look` is called when
 * the last answer is there and the process has not ended.
 */
export async function runLoad<Seen = undefined>(
  order: LoadOrder,
  signal: AbortSignal,
  look?: () => Seen,
): Promise<LoadResult & { seen: Seen | undefined }> {
  const child = fork(fileURLToPath(new URL("load.ts", import.meta.url)), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const settled = new AbortController();
  const limit = AbortSignal.any([signal, settled.signal, AbortSignal.timeout(order.seconds * 1000 + GRACE_MS)]);
  child.once("exit", (code) => settled.abort(new Error(`the load generator ended with ${code}`)));
  try {
    child.send(order);
    const [result] = await once(child, "message", { signal: limit });
    return { ...(result as LoadResult), seen: look?.() };
  } catch (error) {
    limit.throwIfAborted();
    throw error;
  } finally {
    child.kill("SIGKILL");
  }
}
