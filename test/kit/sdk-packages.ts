// The packages as their users get them: built, packed, and installed into an empty folder.
import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildBrowser } from "../../scripts/build-browser.ts";
import { buildReact } from "../../scripts/build-react.ts";
import { buildClient } from "../../scripts/build-sdk.ts";
import { run } from "./standalone.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BUILDS = { browser: buildBrowser, node: buildClient, react: buildReact };
const FILES = ["package.json", "README.md", "LICENSE"];

/** Runs a program to its end and resolves with its stdout; rejects with all it printed when it fails. */
export async function must(program: string, args: readonly string[], cwd = ROOT): Promise<string> {
  const here = ["-C", cwd, program, ...args];
  const { code, stdout, stderr } = await run("env", here, process.env as Record<string, string>);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}:\n${stdout}${stderr}`);
  return stdout;
}

/**
 * Packs these into `folder` and installs them there, with `others` of the versions that this repository has. Resolves
 * with the files of their tarballs.
 */
export async function installSdk(
  folder: string,
  names: (keyof typeof BUILDS)[],
  others: string[],
): Promise<Record<string, string>> {
  const sources = await Promise.all(names.map((name) => prepare(folder, name)));
  await must("npm", ["pack", ...sources, "--pack-destination", folder, "--silent", "--ignore-scripts"]);
  const tarballs = (await readdir(folder)).filter((name) => name.endsWith(".tgz")).map((name) => join(folder, name));
  const { devDependencies } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  const versions = others.map((name) => `${name}@${devDependencies[name]}`);
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
  await must("npm", ["install", ...tarballs, ...versions, ...quiet], folder);
  return Object.fromEntries(tarballs.map((file) => [/millrace-(\w+)-[^/]*$/.exec(file)?.[1] ?? file, file]));
}

/** Type-checks the scripts in `project` as strictly as users may, with `own` options beside; rejects with what is wrong. */
export async function typeCheck(
  project: string,
  moduleResolution: string,
  own: Record<string, unknown>,
): Promise<void> {
  const compilerOptions = {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    target: "es2022",
    module: moduleResolution === "bundler" ? "esnext" : "nodenext",
    moduleResolution,
    ...own,
  };
  await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts", "*.tsx"] }));
  await must(process.execPath, [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", project]);
}

/** Where the built package is. Not in sdk/, where tests that run at the same time would write the same files. */
async function prepare(folder: string, name: keyof typeof BUILDS): Promise<string> {
  const source = join(ROOT, "sdk", name);
  const place = join(folder, ".packing", name);
  await mkdir(place, { recursive: true });
  const present = (await readdir(source)).filter((file) => FILES.includes(file));
  await Promise.all(present.map((file) => cp(join(source, file), join(place, file))));
  await BUILDS[name](join(place, "dist"));
  return place;
}
