// Builds sdk/react to its dist: each source as a module of its own, so that bundlers take what is used, and types.
import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSizes } from "./build-browser.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/react");
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

/** Rejects when the compiler finds fault. Empties the directory first. */
export async function buildReact(directory: string = join(PACKAGE, "dist")): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  const compiled = await mkdtemp(join(tmpdir(), "millrace-react-"));
  try {
    const args = ["--noEmit", "false", "--declaration", "--outDir", compiled];
    const { status, stdout } = spawnSync(process.execPath, [TSC, "-p", PACKAGE, ...args], { encoding: "utf8" });
    if (status !== 0) throw new Error(`tsc:\n${stdout}`);
    // Beside it is @millrace/browser, whose types come from its sources here and from its package elsewhere.
    await cp(join(compiled, "react/src"), directory, { recursive: true });
  } finally {
    await rm(compiled, { recursive: true, force: true });
  }
  for (const name of await readdir(directory)) {
    const file = join(directory, name);
    // The compiler rewrites the names of imported files in scripts only.
    if (name.endsWith(".d.ts")) await writeFile(file, (await readFile(file, "utf8")).replaceAll('.ts"', '.js"'));
  }
}

if (import.meta.main) {
  await buildReact();
  for (const [file, bytes] of Object.entries(await gzipSizes(join(PACKAGE, "dist")))) {
    console.log(`sdk/react/dist/${file}: ${bytes} bytes gzip`);
  }
}
