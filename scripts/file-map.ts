// `npm run map`: writes docs/files.md, one line for each source file, from the first sentence of its header.
// `npm run map -- --check` writes nothing and fails when the page is stale or a file has no header.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const PAGE = "docs/files.md";
/** In the order in which the page shows them. */
const FOLDERS = [
  "bin",
  "services",
  "commands",
  "lib",
  "console",
  "proto",
  "migrations",
  "sdk",
  "examples",
  "deploy",
  "scripts",
  "bench",
  "chaos",
  "test",
];
const SOURCES = new Set([".cjs", ".go", ".jsx", ".mjs", ".proto", ".sh", ".sql", ".ts", ".tsx"]);
/** Made by programs, or by npm. */
const SKIPPED = new Set(["node_modules", "dist", "golden"]);

const INTRODUCTION = `# Files

Every source file and what it is for: the first sentence of the comment at its top. \`npm run map\` writes this page from
those comments, and \`npm run check\` fails when it is stale, so change the comment, not the page. Tests are not listed:
their names say what they prove. [design.md](design.md) shows how the parts fit together.`;

/** Source files below a directory, by path, those of the directory itself before those of its folders. */
function sourcesBelow(directory: string): string[] {
  const entries = readdirSync(join(root, directory), { withFileTypes: true }).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  );
  const files = entries.filter(({ name }) => SOURCES.has(extname(name)) && !name.includes(".test."));
  const folders = entries.filter((entry) => entry.isDirectory() && !SKIPPED.has(entry.name));
  return [
    ...files.map(({ name }) => `${directory}/${name}`),
    ...folders.flatMap(({ name }) => sourcesBelow(`${directory}/${name}`)),
  ];
}

/** The first sentence of the first comment; undefined when something else comes first. */
function headerOf(path: string): string | undefined {
  const lines = readFileSync(join(root, path), "utf8")
    .split("\n")
    .filter((line) => !/^(#!|\/\/ biome-ignore|syntax = )/.test(line));
  while (lines[0] === "") lines.shift();
  const marks = /^(?:\/\/|--|#)(?: |$)/;
  const end = lines.findIndex((line) => !marks.test(line));
  const text = lines
    .slice(0, end === -1 ? lines.length : end)
    .map((line) => line.replace(marks, "").trim())
    .join("\n");
  const [paragraph = ""] = text.split("\n\n");
  const [sentence] = paragraph.replaceAll("\n", " ").split(/(?<=[.!?]) (?=\W*[A-Z]|[\w/-]+\.[a-z])/);
  return sentence === "" ? undefined : sentence;
}

const missing: string[] = [];
const sections = new Map<string, string[]>();
for (const path of FOLDERS.filter((folder) => existsSync(join(root, folder))).flatMap(sourcesBelow)) {
  const header = headerOf(path);
  if (header === undefined) missing.push(path);
  const folder = dirname(path);
  const line = `- [${relative(folder, path)}](../${path}): ${header ?? ""}`;
  sections.set(folder, [...(sections.get(folder) ?? []), line]);
}
const page = [INTRODUCTION, ...[...sections].map(([folder, lines]) => `## ${folder}\n\n${lines.join("\n")}`)];
const fresh = `${page.join("\n\n")}\n`;

for (const path of missing) process.stdout.write(`${path}: start the file with a comment that says what it is for\n`);
if (missing.length > 0) process.exitCode = 1;
else if (!process.argv.includes("--check")) writeFileSync(join(root, PAGE), fresh);
else if (!existsSync(join(root, PAGE)) || readFileSync(join(root, PAGE), "utf8") !== fresh) {
  process.stdout.write(`${PAGE} is stale: run "npm run map" and commit the result\n`);
  process.exitCode = 1;
}
