import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LoadOrder, LoadResult } from "./load.ts";

/** Runs one load in a process of its own. */
export async function runLoad(order: LoadOrder): Promise<LoadResult> {
  const file = fileURLToPath(new URL("load.ts", import.meta.url));
  const child = fork(file, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  child.send(order);
  const [result] = (await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => Promise.reject(new Error(`the load generator ended with ${code}`))),
  ])) as [LoadResult];
  return result;
}
