// Builds sdk/browser to its dist: ESM for browsers and bundlers, autocapture as a chunk of its own, and types.
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { compile, nameScriptsInTypes } from "./sdk-compiler.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/browser");
const PUBLIC_TYPES = ["index.d.ts", "types.d.ts"];

/** What a browser downloads for each file of a directory: bytes after gzip, by file name. */
export async function gzipSizes(directory: string): Promise<Record<string, number>> {
  const files = (await readdir(directory)).filter((name) => name.endsWith(".js")).sort();
  const contents = await Promise.all(files.map((name) => readFile(join(directory, name))));
  return Object.fromEntries(files.map((name, i) => [name, gzipSync(contents[i] as Buffer, { level: 9 }).length]));
}

/** Rejects when the bundler or the compiler finds fault. Empties the directory first. */
export async function buildBrowser(directory: string = join(PACKAGE, "dist")): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await build({
    root: PACKAGE,
    configFile: false,
    logLevel: "warn",
    build: {
      outDir: directory,
      emptyOutDir: true,
      target: "es2022",
      minify: true,
      modulePreload: false,
      lib: { entry: join(PACKAGE, "src/index.ts"), formats: ["es"], fileName: "index" },
      rolldownOptions: { output: { chunkFileNames: "[name].js", minify: true } },
    },
  });
  compile(PACKAGE, ["--declaration", "--emitDeclarationOnly", "--noEmit", "false", "--outDir", directory]);
  for (const name of await readdir(directory)) {
    // What callers see refers to these alone.
    if (name.endsWith(".d.ts") && !PUBLIC_TYPES.includes(name)) await rm(join(directory, name));
  }
  await nameScriptsInTypes(directory);
}

if (import.meta.main) {
  await buildBrowser();
  for (const [file, bytes] of Object.entries(await gzipSizes(join(PACKAGE, "dist")))) {
    console.log(`sdk/browser/dist/${file}: ${bytes} bytes gzip`);
  }
}
