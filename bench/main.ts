// `npm run bench`: what the parts cost and how fast they are, with every row counted. Results go to bench/results/.
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CASES, type Result } from "./cases.ts";

const USAGE = `npm run bench -- [--only NAME] [--quick] [--help]

  --only NAME   only cases whose name contains NAME: ${Object.keys(CASES).join(", ")}
  --quick       a few seconds a case, to see that everything runs; results are not kept
`;

const { values } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) process.stdout.write(USAGE);
else process.exitCode = await run(values.only, values.quick);

async function run(only: string, quick: boolean): Promise<number> {
  const chosen = Object.entries(CASES).filter(([name]) => name.includes(only));
  if (chosen.length === 0) {
    process.stderr.write(`no case has "${only}" in its name\n\n${USAGE}`);
    return 2;
  }
  const results: Result[] = [];
  let failures = 0;
  for (const [name, measure] of chosen) {
    try {
      results.push(...(await measure({ quick, progress: showProgress })));
    } catch (error) {
      failures++;
      process.stderr.write(`\nFAILED ${name}: ${error instanceof Error ? error.stack : String(error)}\n`);
    }
  }
  showProgress("");
  const report = `${describeRun()}\n\n${tableOf(results)}`;
  process.stdout.write(`\n${report}\n`);
  if (!quick && failures === 0) await keep(report, results, only);
  return failures === 0 ? 0 : 1;
}

/** One line that changes on a terminal; a line each where output is kept. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${text}`);
  else if (text !== "" && !/^\d/.test(text)) process.stderr.write(`${text}\n`);
}

function tableOf(results: readonly Result[]): string {
  const rows = results.map(({ name, acked, rows: counted, seconds, cpuUsPerEvent, rssMaxMb, note }) => [
    name,
    String(acked),
    String(counted),
    String(Math.round(counted / seconds)),
    cpuUsPerEvent === undefined ? "" : cpuUsPerEvent.toFixed(1),
    rssMaxMb === undefined ? "" : String(Math.round(rssMaxMb)),
    note,
  ]);
  const head = ["case", "acked", "rows counted", "events/s", "CPU us/event", "RSS max MB", "note"];
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function commitOf(): string {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8" }).trim();
  } catch {
    // Not a checkout: the results say so.
    return "unknown";
  }
}

function describeRun(): string {
  const [cpu] = cpus();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return [
    `Commit ${commitOf()}, ${new Date().toISOString().slice(0, 16)}Z, Node ${process.version}, ${cpus().length} cores (${cpu?.model.trim()}), ${memory}.`,
    "Broker, load generator, ClickHouse and the process under test share the machine. Rows are counted on the log or in ClickHouse.",
  ].join("\n");
}

async function keep(report: string, results: readonly Result[], only: string): Promise<void> {
  const directory = fileURLToPath(new URL("results/", import.meta.url));
  await mkdir(directory, { recursive: true });
  const name = [new Date().toISOString().slice(0, 10), commitOf(), only].filter(Boolean).join("-");
  await writeFile(`${directory}${name}.md`, `${report}\n`);
  await writeFile(`${directory}${name}.json`, `${JSON.stringify(results, null, 2)}\n`);
  process.stdout.write(`\nkept as bench/results/${name}.md and .json\n`);
}
