// `node scripts/build-sdk.ts node`: sdk/node as npm packs it, JavaScript and types in sdk/node/dist.
//
// Sources import the contracts in gen/ and parts of lib/ where they stand, so that services run them without a build. A
// package has to bring them along: they are copied beside its own sources, their imports made to fit, and compiled there.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("..", import.meta.url));
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

function build(name: string): void {
  const directory = join(root, "sdk", name);
  const dist = join(directory, "dist");
  // Beneath the package, so that its dependencies are found.
  const staging = join(directory, ".cache", "build");
  rmSync(dist, { recursive: true, force: true });
  rmSync(staging, { recursive: true, force: true });
  try {
    stage(join(directory, "src"), staging);
    compile(staging, dist);
    for (const file of filesOf(dist, ".d.ts")) rewrite(file, (specifier) => specifier.replace(/\.ts$/, ".js"));
    cpSync(join(root, "LICENSE"), join(dist, "LICENSE"));
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  report(name, dist);
}

/** Copies the entry point and all that it reaches: the package's own files to the top, others by their path in the repository. */
function stage(source: string, staging: string): void {
  const placeOf = (file: string) => {
    const within = relative(source, file);
    return join(staging, within.startsWith("..") ? relative(root, file) : within);
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
      const target = specifier.startsWith("#") ? join(root, specifier.slice(1)) : resolve(dirname(file), specifier);
      queue.push(target);
      const path = relative(dirname(place), placeOf(target));
      return path.startsWith(".") ? path : `./${path}`;
    });
  }
}

function rewrite(file: string, change: (specifier: string) => string): void {
  writeFileSync(file, readFileSync(file, "utf8").replace(IMPORT, change));
}

function compile(staging: string, dist: string): void {
  const config = join(staging, "tsconfig.json");
  const compilerOptions = { ...COMPILER_OPTIONS, rootDir: staging, outDir: dist };
  const extended = join(root, "tsconfig.json");
  writeFileSync(config, JSON.stringify({ extends: extended, compilerOptions, include: ["."] }));
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  const { status } = spawnSync(process.execPath, [compiler, "-p", config], { stdio: "inherit" });
  if (status !== 0) throw new Error("the package does not compile");
}

function filesOf(directory: string, ending: string): string[] {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith(ending)).map((name) => join(directory, name));
}

function report(name: string, dist: string): void {
  const scripts = filesOf(dist, ".js");
  const bytes = scripts.reduce((sum, file) => sum + statSync(file).size, 0);
  const packed = scripts.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0);
  console.log(
    `sdk/${name}/dist: ${scripts.length} files, ${kilobytes(bytes)} of JavaScript, ${kilobytes(packed)} gzipped`,
  );
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(1)} kB`;
}

const [name] = process.argv.slice(2);
if (name !== "node") {
  console.error("usage: node scripts/build-sdk.ts node");
  process.exitCode = 2;
} else {
  build(name);
}
