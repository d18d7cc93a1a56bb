// `npm run fuzz`: the fuzz tests with new inputs for as long as wanted, one decoder after another. What is found is kept below
// .cache/fuzz, with the seed and the input that it shrank to.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const FILES = ["test/component/fuzz.test.ts", "test/component/fuzz-log.test.ts"];
const root = fileURLToPath(new URL("..", import.meta.url));

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "60" }, help: { type: "boolean", default: false } },
});
if (values.help) process.stdout.write("npm run fuzz -- [--minutes 60]\n");
else process.exitCode = await run(Number(values.minutes));

async function run(minutes: number): Promise<number> {
  const calls = FILES.map(
    (file) => readFileSync(new URL(file, `file://${root}`), "utf8").split("await fuzz(").length - 1,
  );
  // Both files run at once.
  const seconds = Math.max(1, Math.floor((minutes * 60) / Math.max(...calls)));
  mkdirSync(`${root}.cache/fuzz`, { recursive: true });
  const kept = `${root}.cache/fuzz/${new Date().toISOString().replaceAll(":", "-")}.txt`;
  const out = createWriteStream(kept);
  const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url));
  const env = { ...process.env, FUZZ_SECONDS: String(seconds), NO_COLOR: "1" };
  const child = spawn(process.execPath, [vitest, "run", "--project", "parts", ...FILES], { cwd: root, env });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      process.stdout.write(bytes);
      out.write(bytes);
    });
  }
  const [code] = (await once(child, "exit")) as [number | null];
  out.end();
  process.stdout.write(`${seconds} s a decoder; kept in ${kept}\n`);
  return code ?? 1;
}
