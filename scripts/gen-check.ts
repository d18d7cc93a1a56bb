// `npm run gen:check`: gen/ is what buf makes of proto/ today. Generates elsewhere and compares; the tree stays as it is.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = join(root, "node_modules", ".bin");

/** Contents by path below `directory`. */
function filesOf(directory: string): Map<string, string> {
  if (!existsSync(directory)) return new Map();
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    entries.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [relative(directory, path), readFileSync(path, "utf8")];
    }),
  );
}

const scratch = mkdtempSync(join(tmpdir(), "millrace-gen-"));
try {
  // buf starts the plugin by its name, from the PATH.
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` };
  const { status } = spawnSync(join(bin, "buf"), ["generate", "-o", scratch], { cwd: root, env, stdio: "inherit" });
  if (status !== 0) throw new Error(`buf generate ended with ${status}`);
  const fresh = filesOf(join(scratch, "gen"));
  const committed = filesOf(join(root, "gen"));
  const stale = [...new Set([...fresh.keys(), ...committed.keys()])].filter(
    (path) => fresh.get(path) !== committed.get(path),
  );
  for (const path of stale) {
    const reason = committed.has(path)
      ? fresh.has(path)
        ? "is out of date"
        : "comes from no proto file"
      : "is missing";
    process.stdout.write(`gen/${path} ${reason}\n`);
  }
  if (stale.length > 0) {
    process.stdout.write('run "npm run gen" and commit the result\n');
    process.exitCode = 1;
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
