// Makes the console's files as browsers take them, in a thread that ends afterwards: types are taken out of the sources,
// imports name files, everything is compressed once.
import { readdir, readFile } from "node:fs/promises";
import { findPackageJSON, stripTypeScriptTypes } from "node:module";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parentPort } from "node:worker_threads";
import { gzipSync } from "node:zlib";
import type { Built } from "./files.ts";

const SOURCES = fileURLToPath(new URL("../../../console/", import.meta.url));
const LIT = "vendor/lit-html/";
/** Of packages: only what the sources ask for. */
const LIT_FILES = ["lit-html.js", "directive.js", "directive-helpers.js", "directives/repeat.js"];
const CHART_FILES = ["uPlot.iife.min.js", "uPlot.min.css"];
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

function packageFolder(name: string): string {
  const file = findPackageJSON(name, import.meta.url);
  if (file === undefined) throw new Error(`the package ${name} is not installed: run npm ci`);
  return dirname(file);
}

/** A source in TypeScript as a module for browsers. */
function toModule(code: string, depth: number): string {
  const up = depth === 0 ? "./" : "../".repeat(depth);
  return stripTypeScriptTypes(code)
    .replace(/^( *)\/\/.*$/gm, "$1")
    .replace(/[ \t]+$/gm, "")
    .replace(/(\bfrom "\.[^"]*)\.ts"/g, '$1.js"')
    .replace(
      /\bfrom "lit-html\/?([^"]*)"/g,
      (_, file: string) => `from "${up}${LIT}${file === "" ? "lit-html.js" : file}"`,
    );
}

function built(path: string, text: string): Built {
  const body = Buffer.from(text.replace(/^\/\/# sourceMappingURL=.*$/m, ""));
  return { path, type: TYPES[extname(path)] ?? "application/octet-stream", body, gzip: gzipSync(body, { level: 9 }) };
}

async function build(): Promise<Built[]> {
  const entries = await readdir(SOURCES, { recursive: true });
  const own = entries.filter((path) => [".ts", ".css", ".html", ".svg"].includes(extname(path)));
  const ownFiles = own.map(async (path) => {
    const text = await readFile(join(SOURCES, path), "utf8");
    if (extname(path) !== ".ts") return built(path, text);
    return built(path.replace(/\.ts$/, ".js"), toModule(text, path.split("/").length - 1));
  });
  const lit = packageFolder("lit-html");
  const litFiles = LIT_FILES.map(async (path) => built(LIT + path, await readFile(join(lit, path), "utf8")));
  const chart = join(packageFolder("uplot"), "dist");
  const chartFiles = CHART_FILES.map(async (path) =>
    built(`vendor/${path}`, await readFile(join(chart, path), "utf8")),
  );
  return Promise.all([...ownFiles, ...litFiles, ...chartFiles]);
}

parentPort?.postMessage(await build());
