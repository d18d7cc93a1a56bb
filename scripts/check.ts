// `npm run check`: everything that can be said about the code without running it. All steps run, all failures are shown.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = join(root, "node_modules", ".bin");
const env = { ...process.env, NO_COLOR: "1", PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` };

interface Result {
  status: number;
  output: string;
}

async function run(command: string, args: readonly string[]): Promise<Result> {
  const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const exit = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
  const [stdout, stderr, status] = await Promise.all([text(child.stdout), text(child.stderr), exit]);
  return { status, output: stdout + stderr };
}

async function git(...args: string[]): Promise<string | undefined> {
  const { status, output } = await run("git", args);
  return status === 0 ? output.trim() : undefined;
}

/**
 * The commit whose contracts must stay readable: main, or what was before it when nothing has changed since, so that the
 * newest commit on main is compared with its parent rather than with itself.
 */
async function contractBase(): Promise<string | undefined> {
  const main = (await git("rev-parse", "--verify", "--quiet", "main^{commit}")) ?? (await git("rev-parse", "HEAD"));
  if (main === undefined) return undefined;
  const unchanged = (await git("diff", "--quiet", main, "--", "proto")) !== undefined;
  const parent = await git("rev-parse", "--verify", "--quiet", `${main}^`);
  const base = unchanged && parent !== undefined ? parent : main;
  return (await git("ls-tree", "-r", "--name-only", base, "--", "proto")) ? base : undefined;
}

async function bufBreaking(): Promise<Result> {
  const base = await contractBase();
  if (base === undefined) return { status: 0, output: "skipped: no earlier commit has proto files to compare with" };
  const scratch = mkdtempSync(join(tmpdir(), "millrace-proto-"));
  try {
    const archive = join(scratch, "proto.tar");
    const archived = await run("git", ["archive", "--output", archive, base, "proto", "buf.yaml"]);
    if (archived.status !== 0) return archived;
    return await run("buf", ["breaking", "--against", archive]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const STEPS: Record<string, () => Promise<Result>> = {
  types: () => run("tsc", ["-p", "."]),
  "types sdk/node": () => run("tsc", ["-p", "sdk/node"]),
  "types sdk/browser": () => run("tsc", ["-p", "sdk/browser", "--noEmit"]),
  "types sdk/react": () => run("tsc", ["-p", "sdk/react", "--noEmit"]),
  "types console": () => run("tsc", ["-p", "console"]),
  "types test/browser": () => run("tsc", ["-p", "test/browser"]),
  biome: () => run("biome", ["check", "--error-on-warnings", "--max-diagnostics=100"]),
  imports: () => run(process.execPath, ["scripts/import-rules.ts"]),
  knip: () => run("knip", ["--no-progress"]),
  "buf lint": () => run("buf", ["lint"]),
  "buf breaking": bufBreaking,
  "gen:check": () => run(process.execPath, ["scripts/gen-check.ts"]),
  "file map": () => run(process.execPath, ["scripts/file-map.ts", "--check"]),
};

const results = await Promise.all(
  Object.entries(STEPS).map(async ([name, step]) => {
    const begun = performance.now();
    const { status, output } = await step();
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    process.stdout.write(`${status === 0 ? "ok  " : "FAIL"} ${name} (${seconds} s)\n`);
    if (output.trim() !== "" && (status !== 0 || output.startsWith("skipped"))) process.stdout.write(`${output}\n`);
    return { name, status };
  }),
);
const failed = results.filter(({ status }) => status !== 0).map(({ name }) => name);
process.stdout.write(failed.length === 0 ? "all checks passed\n" : `failed: ${failed.join(", ")}\n`);
if (failed.length > 0) process.exitCode = 1;
