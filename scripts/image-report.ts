// `npm run image:report`: what is in the image and how big, without Docker. Follows the Dockerfile: its npm command in an
// empty directory, the build of the package, its COPY lines, its entry point. Fails when a package is in it that only
// development or an optional dependency needs, or when a service does not get as far as its settings.
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { buildPackage } from "./build-package.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** With what a service needs to accept its settings. */
const SETTINGS = { KAFKA_BROKERS: "localhost:9092", ALLOW_ANONYMOUS: "true" };
const MB = 1_000_000;

export interface Recipe {
  /** Arguments of npm in the stage that installs. */
  npm: string[];
  /** Paths that the last stage copies from the checkout. */
  copies: string[];
  /** Arguments of node up to the program, as in ENTRYPOINT. */
  entryPoint: string[];
}

/** What the Dockerfile does. Throws when it does something that is not understood here. */
export function readRecipe(dockerfile: string): Recipe {
  const lines = dockerfile.replaceAll(/\\\n\s*/g, "").split("\n");
  const npm = lines.map((line) => /^RUN npm (ci .*)$/.exec(line)?.[1]).find((match) => match !== undefined);
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")));
  const copies = last.filter((line) => /^COPY (?!--from)/.test(line)).flatMap((line) => line.split(/\s+/).slice(1, -1));
  const entryPoint = last.map((line) => /^ENTRYPOINT (\[.*\])$/.exec(line)?.[1]).find((match) => match !== undefined);
  const [program, ...args] = entryPoint === undefined ? [] : (JSON.parse(entryPoint) as string[]);
  if (npm === undefined || program !== "node")
    throw new Error("Dockerfile: no `RUN npm ci`, or ENTRYPOINT is not node");
  if (!lines.includes("RUN npm run prepack") || !last.includes("COPY --from=build /app/dist dist"))
    throw new Error("Dockerfile: the image does not have what `npm run prepack` builds");
  return { npm: npm.split(/\s+/), copies, entryPoint: args };
}

/** Makes /app of the image in an empty directory; needs npm and its cache or the registry. */
export async function assemble(directory: string, recipe: Recipe): Promise<void> {
  for (const file of ["package.json", "package-lock.json"]) await cp(join(root, file), join(directory, file));
  const { status, output } = await run("npm", [...recipe.npm, "--prefer-offline"], directory);
  if (status !== 0) throw new Error(`npm ${recipe.npm.join(" ")} failed:\n${output}`);
  await buildPackage(join(directory, "dist"));
  for (const path of recipe.copies) {
    await mkdir(join(directory, path, ".."), { recursive: true });
    await cp(join(root, path), join(directory, path), { recursive: true });
  }
}

interface Lock {
  packages: Record<string, { version?: string; dev?: boolean; optional?: boolean; devOptional?: boolean }>;
}

export interface Installed {
  /** As in the lock: node_modules/zod. */
  path: string;
  version: string;
  bytes: number;
  /** The lock says that it is there for development or an optional dependency alone. */
  unwanted: boolean;
}

/** Every installed package, largest first. Throws for one that the lock does not know. */
export async function installedPackages(
  directory: string,
  lockFile = join(directory, "package-lock.json"),
): Promise<Installed[]> {
  const lock = JSON.parse(await readFile(lockFile, "utf8")) as Lock;
  const paths = await packagePaths(directory, "node_modules");
  const packages = paths.map(async (path) => {
    const entry = lock.packages[path];
    if (!entry) throw new Error(`${path} is installed and not in package-lock.json`);
    const unwanted = entry.dev === true || entry.optional === true || entry.devOptional === true;
    return { path, version: entry.version ?? "", bytes: await bytesBelow(join(directory, path)), unwanted };
  });
  return (await Promise.all(packages)).sort((a, b) => b.bytes - a.bytes);
}

async function packagePaths(directory: string, below: string): Promise<string[]> {
  const entries = await readdir(join(directory, below), { withFileTypes: true }).catch(ignoreMissing);
  const nested = entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
    .map(async ({ name }) => {
      const path = `${below}/${name}`;
      if (!name.startsWith("@")) return [path, ...(await packagePaths(directory, `${path}/node_modules`))];
      return packagePaths(directory, path);
    });
  return (await Promise.all(nested)).flat();
}

/** A package without packages of its own has no such directory. */
function ignoreMissing(error: NodeJS.ErrnoException): [] {
  if (error.code === "ENOENT") return [];
  throw error;
}

/** Without the packages nested in it. */
async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true });
  const sizes = entries
    .filter(({ name }) => name !== "node_modules")
    .map(async (entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? bytesBelow(path) : (await stat(path)).size;
    });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Services with settings of their own that the image is for. */
export const IMAGE_SERVICES = ["gateway", "consumer", "relay", "stats", "migrate"];

/** What `--check-config` of a service says in the assembled tree; undefined when all is well. */
export async function startFault(
  directory: string,
  { entryPoint }: Recipe,
  service: string,
): Promise<string | undefined> {
  const args = [...entryPoint, service, "--check-config"];
  const { status, output } = await run(process.execPath, args, directory, SETTINGS);
  return status === 0 ? undefined : `millrace ${service} --check-config ended with ${status}:\n${output}`;
}

interface Ended {
  status: number | null;
  output: string;
}

async function run(program: string, args: readonly string[], cwd: string, env = {}): Promise<Ended> {
  const inherited = { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "" };
  const npmSettings = Object.fromEntries(Object.entries(process.env).filter(([name]) => /^npm_config_/i.test(name)));
  const child = spawn(program, args, {
    cwd,
    env: { ...inherited, ...npmSettings, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = Promise.withResolvers<number | null>();
  child.once("error", ended.reject);
  child.once("close", ended.resolve);
  const [status, stdout, stderr] = await Promise.all([ended.promise, text(child.stdout), text(child.stderr)]);
  return { status, output: stdout + stderr };
}

async function main(): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-image-"));
  try {
    const recipe = readRecipe(await readFile(join(root, "Dockerfile"), "utf8"));
    await assemble(directory, recipe);
    const packages = await installedPackages(directory);
    const faults = packages.filter(({ unwanted }) => unwanted).map(({ path }) => `${path} is not for production`);
    for (const service of IMAGE_SERVICES) faults.push((await startFault(directory, recipe, service)) ?? "");
    const size = (bytes: number) => (bytes / MB).toFixed(2).padStart(7);
    const line = ({ path, version, bytes }: Installed) =>
      `${size(bytes)} MB  ${path.split("node_modules/").at(-1)} ${version}${
        /node_modules.*node_modules/.test(path)
          ? ` (in ${path
              .split("/node_modules/")
              .slice(0, -1)
              .map((part) => basename(part))
              .join("/")})`
          : ""
      }`;
    const own = await bytesBelow(directory);
    const total = packages.reduce((sum, { bytes }) => sum + bytes, own);
    const summary = `${size(total)} MB  /app in all, over the base image: ${packages.length} packages, own files ${(own / MB).toFixed(2)} MB`;
    process.stdout.write(`${[...packages.map(line), summary].join("\n")}\n`);
    const real = faults.filter(Boolean);
    for (const fault of real) process.stderr.write(`FAULT ${fault}\n`);
    if (real.length === 0) process.stdout.write(`no development dependency; started: ${IMAGE_SERVICES.join(", ")}\n`);
    return real.length === 0 ? 0 : 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = await main();
