// Builds sdk/node to its dist: JavaScript and types.
//
// Sources import the contracts in gen/ and parts of lib/ where they stand, so that services run them without a build. A
// package has to bring them along: they are copied beside its own sources, their imports made to fit, and compiled there.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { compile, nameScriptsInTypes } from "./sdk-compiler.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/node");
const IMPORT = /(?<=(?:from|import)\s*\(?")(?:\.{1,2}|#lib|#gen)\/[^"]+(?=")/g;

/** Node 20, the oldest that the packages run on, knows this language level. */
const COMPILER_OPTIONS = {
  target: "es2022",
  lib: ["es2024", "esnext.disposable"],
  noEmit: false,
  allowImportingTsExtensions: false,
  rewriteRelativeImportExtensions: true,
  declaration: true,
};

/** Rejects when the compiler finds fault. Empties the directory first. */
export async function buildClient(directory: string = join(PACKAGE, "dist")): Promise<void> {
  rmSync(directory, { recursive: true, force: true });
  // Beneath the package, so that its dependencies are found.
  mkdirSync(join(PACKAGE, ".cache"), { recursive: true });
  const staging = mkdtempSync(join(PACKAGE, ".cache", "build-"));
  try {
    stage(join(PACKAGE, "src"), staging);
    const compilerOptions = { ...COMPILER_OPTIONS, rootDir: staging, outDir: directory };
    const config = { extends: join(ROOT, "tsconfig.json"), compilerOptions, include: ["."] };
    writeFileSync(join(staging, "tsconfig.json"), JSON.stringify(config));
    compile(staging);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  await nameScriptsInTypes(directory);
}

/** Copies the entry point and all that it reaches: the package's own files to the top, others by their path in the repository. */
function stage(source: string, staging: string): void {
  const placeOf = (file: string) => {
    const within = relative(source, file);
    return join(staging, within.startsWith("..") ? relative(ROOT, file) : within);
  };
  const seen = new Set<string>();
  const queue = [join(source, "index.ts")];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    const place = placeOf(file);
    mkdirSync(dirname(place), { recursive: true });
    cpSync(file, place);
    rewrite(place, (specifier) => {
      const target = specifier.startsWith("#") ? join(ROOT, specifier.slice(1)) : resolve(dirname(file), specifier);
      queue.push(target);
      const path = relative(dirname(place), placeOf(target));
      return path.startsWith(".") ? path : `./${path}`;
    });
  }
}

function rewrite(file: string, change: (specifier: string) => string): void {
  writeFileSync(file, readFileSync(file, "utf8").replace(IMPORT, change));
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(1)} kB`;
}

if (import.meta.main) {
  await buildClient();
  const dist = join(PACKAGE, "dist");
  const names = readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".js"));
  const scripts = names.map((name) => join(dist, name));
  const bytes = scripts.reduce((sum, file) => sum + statSync(file).size, 0);
  const packed = scripts.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0);
  console.log(
    `sdk/node/dist: ${scripts.length} files, ${kilobytes(bytes)} of JavaScript, ${kilobytes(packed)} gzipped`,
  );
}
