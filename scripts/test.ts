// `npm test`: all tests once, then the process ends. Arguments are handed on: `npm test -- lib/events`.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { buildPackage } from "./build-package.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url));
// The tests start hundreds of processes, whose code need not be found and compiled each time.
const cache = fileURLToPath(new URL("../node_modules/.cache", import.meta.url));
const own = {
  NODE_COMPILE_CACHE: `${cache}/node-compile`,
  MILLRACE_TEST_COMMANDS: await buildPackage(`${cache}/millrace-package`),
};
const env = { ...own, ...process.env };
// The process of each ClickHouse, which is confined, reads the cache and can keep nothing in it. Alone, it loads its code
// and ends.
const engine = ["--require", "chdb", "services/clickhouse/child.ts"];
spawnSync(process.execPath, engine, { cwd: root, env, stdio: "inherit" });
const { status, error } = spawnSync(process.execPath, [vitest, "run", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env,
});
if (error) throw error;
process.exitCode = status ?? 1;
