// Where tests keep what they fetch and build once: in the user's cache, so that another clone need not do it again.
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "millrace-tests");

/** Part of a name in the cache: what was made of other files is not found under it. */
export function hashOfFiles(paths: readonly string[]): string {
  return hash("sha256", paths.map((path) => readFileSync(path, "utf8")).join("\0")).slice(0, 12);
}
