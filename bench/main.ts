// `npm run bench`: what the parts cost and how fast they are, with every row counted. Results go to bench/results/.
import { parseArgs } from "node:util";
import { exitWith } from "#lib/process/lifecycle.ts";
import { CASES } from "./cases.ts";
import { describeEnvironment, keepReport, reportText } from "./report.ts";
import { runCases } from "./runner.ts";

const USAGE = `npm run bench -- [--only NAME] [--minutes N] [--quick] [--help]

  --only NAME   only cases whose name contains NAME
  --minutes N   how long the case "soak" takes; default 30
  --quick       a few seconds a case, to see that everything runs; results are printed and not kept

Exits with 1 when a count of rows differs from what was acknowledged, or a case fails otherwise. Missed targets are shown.

Cases:
${Object.keys(CASES)
  .map((name) => `  ${name}`)
  .join("\n")}
`;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

exitWith(await main());

async function main(): Promise<number> {
  let values: { only: string; minutes: string; quick: boolean; help: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        only: { type: "string", default: "" },
        minutes: { type: "string", default: "30" },
        quick: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) {
    process.stderr.write(`--minutes: "${values.minutes}" is no number above 0\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  const chosen = Object.entries(CASES).filter(([name]) => name.includes(values.only));
  if (chosen.length === 0) {
    process.stderr.write(`no case has "${values.only}" in its name\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  return run(chosen, { ...values, minutes });
}

interface Options {
  only: string;
  minutes: number;
  quick: boolean;
}

async function run(chosen: [string, (typeof CASES)[string]][], { only, minutes, quick }: Options) {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => interrupted.abort(new Error(`stopped by ${signal}`)));
  }
  // Taken first: the tree may change while the cases run.
  const environment = describeEnvironment();
  const outcome = await runCases(chosen, {
    ...{ quick, minutes },
    signal: interrupted.signal,
    progress: showProgress,
    onFailure(name, error) {
      process.stderr.write(`\nFAILED ${name}: ${error instanceof Error ? error.stack : String(error)}\n`);
    },
  });
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
  process.stdout.write(`\n${reportText(environment, outcome)}\n`);
  if (interrupted.signal.aborted) return EXIT_INTERRUPTED;
  if (!quick) process.stdout.write(`\nkept as ${await keepReport(environment, outcome, only)}\n`);
  return outcome.failures.length === 0 ? 0 : EXIT_FAILED;
}

/** One line that changes on a terminal; a line each where output is kept, without the counts that tick by. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${text}`);
  else if (!/\d+ of \d+ rows$/.test(text)) process.stderr.write(`${text}\n`);
}
