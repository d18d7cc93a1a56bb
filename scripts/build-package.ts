// Builds the installable `millrace` into dist/: `npm pack` runs it, and removes dist/ afterwards (prepack, postpack).
//
// Node runs TypeScript as it is, but refuses to below node_modules. So each file that the commands reach is written as
// JavaScript under its own path, types replaced by blanks. That is what threads and child processes run; the commands
// themselves run from a bundle of these files, which starts sooner and takes less memory.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleCommands } from "./bundle-commands.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** `millrace <command>` loads all else from here, processes and threads of its own included. */
const ENTRY = "services/cli.ts";
/** A source file that another one names: in an import, or in the URL of a worker or a child process. */
const SOURCE_NAME = /(?<=")(?:\.{1,2}|#lib|#gen)\/[^"\n]+\.ts(?=")/g;
/** What a file reads while it runs: new URL("../../migrations", import.meta.url). */
const DATA_NAME = /(?<=new URL\(")\.{1,2}\/[^"\n]+(?=", import\.meta\.url\))/g;

/** Returns how many files were written. Empties the directory first; throws for a source file that is not there. */
export async function buildPackage(directory: string = join(ROOT, "dist")): Promise<number> {
  rmSync(directory, { recursive: true, force: true });
  const files = reachable(join(ROOT, ENTRY));
  for (const file of files) {
    const place = join(directory, scriptName(relative(ROOT, file)));
    mkdirSync(dirname(place), { recursive: true });
    const script = stripTypeScriptTypes(readFileSync(file, "utf8"));
    writeFileSync(place, script.replaceAll(SOURCE_NAME, scriptName));
    for (const [name] of script.matchAll(DATA_NAME)) copyData(resolve(dirname(file), name), directory);
  }
  // A scope of its own: #lib and #gen mean the files beside it.
  const { version, type, imports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  writeFileSync(join(directory, "package.json"), `${JSON.stringify({ private: true, version, type, imports })}\n`);
  await bundleCommands(join(directory, "bundle"), {
    root: directory,
    entry: scriptName(ENTRY),
    placeOf: (file) => `new URL(${JSON.stringify(`../${relative(directory, file)}`)}, import.meta.url).href`,
  });
  return files.size;
}

/** Not sources, which are written as scripts, nor the package as a whole. */
function copyData(data: string, directory: string): void {
  const path = relative(ROOT, data);
  if (path !== "" && !path.endsWith(".ts")) cpSync(data, join(directory, path), { recursive: true });
}

function scriptName(path: string): string {
  return path.replace(/\.ts$/, ".js");
}

function reachable(entry: string): Set<string> {
  const seen = new Set<string>();
  const queue = [entry];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (seen.has(file)) continue;
    if (!existsSync(file)) throw new Error(`${relative(ROOT, file)} is named in a source file and does not exist`);
    seen.add(file);
    for (const [name] of stripTypeScriptTypes(readFileSync(file, "utf8")).matchAll(SOURCE_NAME)) {
      queue.push(name.startsWith("#") ? join(ROOT, name.slice(1)) : resolve(dirname(file), name));
    }
  }
  return seen;
}

// Not to stdout, which `npm pack --json` has for itself.
if (import.meta.main) console.error(`${await buildPackage(process.argv[2])} files`);
