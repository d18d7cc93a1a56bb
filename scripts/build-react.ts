// Builds sdk/react to its dist: each source as a module of its own, so that bundlers take what is used, and types.
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSizes } from "./build-browser.ts";
import { compile, nameScriptsInTypes } from "./sdk-compiler.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/react");

/** Rejects when the compiler finds fault. Empties the directory first. */
export async function buildReact(directory: string = join(PACKAGE, "dist")): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  const compiled = await mkdtemp(join(tmpdir(), "millrace-react-"));
  try {
    compile(PACKAGE, ["--noEmit", "false", "--declaration", "--outDir", compiled]);
    // Beside it is @millrace/browser, whose types come from its sources here and from its package elsewhere.
    await cp(join(compiled, "react/src"), directory, { recursive: true });
  } finally {
    await rm(compiled, { recursive: true, force: true });
  }
  await nameScriptsInTypes(directory);
}

if (import.meta.main) {
  await buildReact();
  for (const [file, bytes] of Object.entries(await gzipSizes(join(PACKAGE, "dist")))) {
    console.log(`sdk/react/dist/${file}: ${bytes} bytes gzip`);
  }
}
