// `npm test`: all tests once, then the process ends. Arguments are handed on: `npm test -- lib/events`.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url));
// The tests start hundreds of processes, whose code need not be compiled anew each time.
const compileCache = fileURLToPath(new URL("../node_modules/.cache/node-compile", import.meta.url));
const { status, error } = spawnSync(process.execPath, [vitest, "run", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env: { NODE_COMPILE_CACHE: compileCache, ...process.env },
});
if (error) throw error;
process.exitCode = status ?? 1;
