// The README, the tour and the page on Kafka are run: every command, in their order, in a shell, against a started
// standalone.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { signalGroup } from "../kit/os-processes.ts";
import { isExpectedOutput, readSteps, type Step } from "../kit/readme.ts";
import { type RunningStandalone, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PAGES = ["README.md", "docs/tour.md", "docs/kafka.md"];
const texts = await Promise.all(PAGES.map((page) => readFile(join(ROOT, page), "utf8")));
const steps = texts.flatMap((markdown, index) => readSteps(markdown).map((step) => ({ ...step, page: PAGES[index] })));
const ofKind = (kind: Step["kind"]) => steps.filter((step) => step.kind === kind);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
/** Process groups, in which the README's background jobs are. */
const groups = new Set<number>();

beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await startStandalone({ dataDir: join(directory.path, ".millrace") });
});
afterAll(async () => {
  for (const leader of groups) signalGroup(leader, "SIGKILL");
  await standalone?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

/** The README's ports may be busy, and its data directory is the reader's own. */
function moved(command: string): string {
  return command
    .replaceAll("8080", new URL(standalone.url).port)
    .replaceAll("8081", new URL(standalone.statsUrl).port)
    .replaceAll("127.0.0.1:3001", standalone.relayAddress)
    .replaceAll("8123", new URL(standalone.clickhouseUrl).port)
    .replaceAll("./.millrace", standalone.dataDir);
}

async function shell(command: string) {
  const child = spawn("sh", ["-c", command], {
    cwd: ROOT,
    env: {
      ...standalone.env,
      PATH: `${join(ROOT, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}`,
      HOME: directory.path,
      MILLRACE_CHECKPOINT: join(directory.path, "checkpoint"),
    },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const leader = child.pid as number;
  groups.add(leader);
  const closed = once(child, "close");
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  if (!signalGroup(leader, 0)) groups.delete(leader);
  return { code: code as number | null, stdout, stderr };
}

/** Repeated until it prints what it should: rows are there about a second after the answer. */
const ONLY_READS = /8123\/|millrace -- verify/;
const SETTLE_MS_MAX = 10_000;

async function expectStep({ command, expected }: Step): Promise<void> {
  const { code, stdout, stderr } = await shell(moved(command));
  expect(code, `${stdout}${stderr}`).toBe(0);
  if (!isExpectedOutput(moved(expected as string), stdout)) expect(stdout).toBe(moved(expected as string));
}

it("the two commands of the README are scripts that package.json has", async () => {
  const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  expect(ofKind("setup").map(({ command }) => command.trim())).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  expect(scripts).toMatchObject({
    start: expect.stringMatching(/^exec node .*bin\/millrace\.cjs start$/),
    test: "node scripts/test.ts",
  });
});

it("npm start prints what the README shows", () => {
  const printed = standalone.process.lines.filter((line) => !line.startsWith("{")).join("\n");
  const [{ expected = "" } = {}] = ofKind("setup");
  expect(printed).toBe(moved(expected).trimEnd());
});

it("every command that is run has its output beside it", () => {
  const without = ofKind("run").filter(({ expected }) => expected === undefined);
  expect(without.map(({ page, line, command }) => `${page}, line ${line}: ${command}`)).toEqual([]);
  expect(ofKind("run").length).toBeGreaterThan(8);
  expect(firstImport?.page).toBe("README.md");
});

/** From there to the end of its page nothing is waited for: an import ends when its rows are there, and verify waits by itself. */
const firstImport = ofKind("run").find(({ command }) => command.includes(" -- import "));

it.each(ofKind("run"))("$page, line $line prints what stands below it", async (step) => {
  const isPasted = step.page === firstImport?.page && step.line >= (firstImport?.line ?? 0);
  if (isPasted || !ONLY_READS.test(step.command)) return await expectStep(step);
  await vi.waitFor(() => expectStep(step), { timeout: SETTLE_MS_MAX, interval: 100 });
});

it.each(ofKind("check"))("$page, line $line names settings that exist", async ({ command }) => {
  const { code, stdout, stderr } = await shell(`${command.trim()} --check-config`);
  expect(code, stderr).toBe(0);
  expect(stdout).toContain("configuration ok");
});
