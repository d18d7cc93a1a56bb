// The key by which a standalone's ClickHouse endpoint knows the standalone itself and the commands of its user. Everybody
// who may read the data directory has it; a new one is drawn with every start.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isLoopback } from "#lib/http/loopback.ts";

export const OWNER_HEADER = "x-millrace-owner";

const FILE = "owner.key";

/** Resolves with the key, once it is in the directory. */
export async function writeOwnerKey(dataDir: string): Promise<string> {
  const key = randomBytes(24).toString("base64url");
  const file = join(dataDir, FILE);
  await writeFile(`${file}.new`, key, { mode: 0o600 });
  await rename(`${file}.new`, file);
  return key;
}

/** Headers for requests to the endpoint at `url`: none where there is no key, or another machine would be told it. */
export function ownerHeaders(dataDir: string, url: string): Record<string, string> {
  if (!isLoopback(new URL(url).hostname)) return {};
  try {
    return { [OWNER_HEADER]: readFileSync(join(dataDir, FILE), "utf8") };
  } catch {
    // No standalone has this directory, or it belongs to somebody else: the caller is a stranger then.
    return {};
  }
}
