// What the builds of the packages in sdk/ have in common: the compiler, and types as other compilers read them.
import { spawnSync } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const TSC = fileURLToPath(new URL("../node_modules/typescript/bin/tsc", import.meta.url));

/** Throws with what the compiler said when it finds fault. */
export function compile(project: string, options: readonly string[] = []): void {
  const { status, stdout } = spawnSync(process.execPath, [TSC, "-p", project, ...options], { encoding: "utf8" });
  if (status !== 0) throw new Error(`tsc:\n${stdout}`);
}

/** Names in the types of a directory the scripts that are there: the compiler does it in scripts only. */
export async function nameScriptsInTypes(directory: string): Promise<void> {
  const files = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith(".d.ts"));
  for (const name of files) {
    const file = join(directory, name);
    await writeFile(file, (await readFile(file, "utf8")).replaceAll('.ts"', '.js"'));
  }
}
