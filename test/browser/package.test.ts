// What is published as @millrace/browser.
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { buildBrowser, gzipSizes } from "../../scripts/build-browser.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PACKAGE = join(ROOT, "sdk/browser");
const CORE_BYTES_MAX = 12 * 1024;

let directory: string;
let dist: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-package-"));
  dist = join(directory, "dist");
  await buildBrowser(dist);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

it("has a core of at most 12 KB gzip, and autocapture in a chunk of its own", async () => {
  const sizes = await gzipSizes(dist);
  process.stdout.write(`@millrace/browser, bytes gzip: ${JSON.stringify(sizes)}\n`);
  expect(Object.keys(sizes)).toEqual(["autocapture.js", "index.js"]);
  expect(sizes["index.js"]).toBeLessThanOrEqual(CORE_BYTES_MAX);
  const core = await readFile(join(dist, "index.js"), "utf8");
  // Loaded by a dynamic import only, so that pages without autocapture never fetch it.
  expect(core.match(/[^;]{0,8}\.\/autocapture\.js/g)).toEqual([expect.stringMatching(/import\(/)]);
});

it("has no code that a strict Content-Security-Policy refuses", async () => {
  for (const file of ["index.js", "autocapture.js"]) {
    const code = await readFile(join(dist, file), "utf8");
    expect(code).not.toMatch(/\beval\(|new Function|innerHTML|document\.write|createElement|style\.|on\w+="/);
  }
});

it("depends on nothing, packs its dist alone, and is free of side effects", async () => {
  const beside = ["LICENSE", "README.md", "package.json"];
  for (const name of beside) await cp(join(PACKAGE, name), join(directory, name));
  const packed = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: directory,
    encoding: "utf8",
  });
  const report = JSON.parse(packed) as { files: { path: string }[] }[] | Record<string, { files: { path: string }[] }>;
  const [{ files }] = Object.values(report) as [{ files: { path: string }[] }];
  const built = (await readdir(dist)).map((name) => `dist/${name}`);
  expect(files.map(({ path }) => path).sort()).toEqual([...built, ...beside].sort());
  const manifest = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as Record<string, unknown>;
  expect([manifest.dependencies, manifest.peerDependencies, manifest.sideEffects]).toEqual([
    undefined,
    undefined,
    false,
  ]);
});

it("can be imported where there is no browser, and is one client until told otherwise", async () => {
  const script = `
    const { default: millrace, createClient, Millrace, ClickHouseProductAnalytics } = await import(process.argv[1]);
    const other = createClient();
    if (!(other instanceof Millrace) || other === millrace || ClickHouseProductAnalytics !== Millrace) throw new Error();
    millrace.init("KEY", { apiHost: "http://127.0.0.1:9/" });
    millrace.capture("on a server");
    console.log(millrace.counters().queued);
    process.exit();`;
  const args = ["--input-type=module", "-e", script, join(dist, "index.js")];
  expect(execFileSync(process.execPath, args, { encoding: "utf8" }).trim()).toBe("1");
});
