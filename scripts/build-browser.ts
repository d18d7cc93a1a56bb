// Builds sdk/browser to its dist: ESM for browsers and bundlers, autocapture as a chunk of its own, and types.
import { spawnSync } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/browser");
const PUBLIC_TYPES = ["index.d.ts", "types.d.ts"];
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

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
  const types = ["--declaration", "--emitDeclarationOnly", "--noEmit", "false", "--outDir", directory];
  const { status, stdout } = spawnSync(process.execPath, [TSC, "-p", PACKAGE, ...types], { encoding: "utf8" });
  if (status !== 0) throw new Error(`tsc:\n${stdout}`);
  for (const name of await readdir(directory)) {
    if (!name.endsWith(".d.ts")) continue;
    const file = join(directory, name);
    // What callers see refers to types alone, by the names that compilers of callers expect.
    if (PUBLIC_TYPES.includes(name)) await writeFile(file, (await readFile(file, "utf8")).replaceAll('.ts"', '.js"'));
    else await rm(file);
  }
}

if (import.meta.main) {
  await buildBrowser();
  for (const [file, bytes] of Object.entries(await gzipSizes(join(PACKAGE, "dist")))) {
    console.log(`sdk/browser/dist/${file}: ${bytes} bytes gzip`);
  }
}
