// `npm run chaos`: whatever dies, nothing is lost and nothing doubled. One run, with its verdict.
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { exitWith } from "#lib/process/lifecycle.ts";
import { measureSlowness } from "../test/kit/patience.ts";
import { ALL_KINDS, type FaultKind, kindsOf } from "./kinds.ts";
import { planText, reportText } from "./report.ts";
import { type ChaosReport, runChaos } from "./run.ts";
import { type PlannedFault, planFaults } from "./schedule.ts";

const USAGE = `npm run chaos -- [--seed N] [--minutes 5] [--events-per-second 400] [--brokers 3]
                     [--only KIND,…] [--plan] [--out FILE] [--help]

Real Kafka, ClickHouse, two gateways and three consumers as processes of their own, a steady load, and faults. At the end
every event that was acknowledged must be stored once, as it was sent, and the people must be those that the events say.

  --seed N                 repeats the faults of an earlier run, and what is said about people; default: a new one, printed
  --minutes N              how long faults happen; from 5 minutes on every kind does. Default 5
  --events-per-second N    default 400
  --brokers 3              three brokers, replicated, with TLS and logins, and what happens to such; default 1
  --only KIND,KIND         only these kinds of fault
  --plan                   prints when which fault will happen, and ends
  --out FILE               writes the report as JSON

Exits with 0 when nothing is lost, doubled or altered, no person is wrong, \`millrace verify\` agrees, and every planned
fault was seen to have happened.

Kinds: ${ALL_KINDS.join(", ")}
With three brokers: ${kindsOf(3).join(", ")}
`;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
const SEED_MAX = 2 ** 31;
const PLAIN_PROGRESS_MS = 15_000;

interface Order {
  seed: number;
  minutes: number;
  eventsPerSecond: number;
  brokers: 1 | 3;
  kinds: FaultKind[] | undefined;
  planOnly: boolean;
  out: string | undefined;
}

exitWith(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  let order: Order | "help";
  try {
    order = readOrder(args);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  if (order === "help") {
    process.stdout.write(USAGE);
    return 0;
  }
  measureSlowness();
  const plan = planFaults(order);
  process.stdout.write(`seed ${order.seed}\n`);
  if (!order.planOnly) return run(order, plan);
  process.stdout.write(`${planText(plan)}\n`);
  return 0;
}

/** Throws with what is wrong with the arguments. */
function readOrder(args: string[]): Order | "help" {
  const { values } = parseArgs({
    args,
    options: {
      seed: { type: "string" },
      minutes: { type: "string", default: "5" },
      "events-per-second": { type: "string", default: "400" },
      brokers: { type: "string", default: "1" },
      only: { type: "string" },
      plan: { type: "boolean", default: false },
      out: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const seed = values.seed === undefined ? Math.floor(Math.random() * SEED_MAX) : numberOf("--seed", values.seed);
  if (values.brokers !== "1" && values.brokers !== "3") throw new Error(`--brokers: "${values.brokers}" is not 1 or 3`);
  const brokers = values.brokers === "3" ? 3 : 1;
  const known = kindsOf(brokers);
  const unknown = values.only?.split(",").find((kind) => !known.includes(kind as FaultKind));
  if (unknown !== undefined) throw new Error(`--only: with so many brokers no kind of fault is called "${unknown}"`);
  return {
    seed,
    minutes: numberOf("--minutes", values.minutes, 0.2),
    eventsPerSecond: numberOf("--events-per-second", values["events-per-second"], 1),
    brokers,
    kinds: values.only?.split(",") as FaultKind[] | undefined,
    planOnly: values.plan,
    out: values.out,
  };
}

function numberOf(name: string, text: string, min = 0): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < min) {
    throw new Error(`${name}: "${text}" is no number of at least ${min}`);
  }
  return value;
}

async function run(order: Order, plan: readonly PlannedFault[]): Promise<number> {
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interrupted.abort(new Error(`stopped by ${name}`)));
  }
  const screen = createScreen();
  screen.progress("starting Kafka, ClickHouse, gateways and consumers");
  const { seed, minutes, brokers, eventsPerSecond } = order;
  const { signal } = interrupted;
  let report: ChaosReport;
  try {
    report = await runChaos({
      seed,
      minutes,
      brokers,
      eventsPerSecond,
      plan,
      signal,
      report: screen.line,
      progress: screen.progress,
    });
  } catch (error) {
    screen.line("");
    process.stderr.write(`not started: ${error instanceof Error ? error.message : String(error)}\n`);
    return signal.aborted ? EXIT_INTERRUPTED : EXIT_FAILED;
  }
  screen.line("");
  process.stdout.write(reportText(report, againText(order)));
  if (order.out !== undefined) await writeFile(order.out, `${JSON.stringify(report, undefined, 2)}\n`);
  if (signal.aborted) return EXIT_INTERRUPTED;
  return report.failures.length === 0 ? 0 : EXIT_FAILED;
}

function againText({ seed, minutes, eventsPerSecond, brokers, kinds }: Order): string {
  const only = kinds === undefined ? "" : ` --only ${kinds.join(",")}`;
  return `npm run chaos -- --seed ${seed} --minutes ${minutes} --events-per-second ${eventsPerSecond}${brokers === 3 ? " --brokers 3" : ""}${only}`;
}

/** On a terminal the last line changes in place; elsewhere it is printed now and then. */
function createScreen(): { line(text: string): void; progress(text: string): void } {
  const { isTTY, columns = 120 } = process.stdout;
  let printedAt = Number.NEGATIVE_INFINITY;
  return {
    line: (text) => void process.stdout.write(`${isTTY ? "\r\u001b[2K" : ""}${text}\n`),
    progress(text) {
      if (isTTY) {
        process.stdout.write(`\r\u001b[2K${text.slice(0, columns - 1)}`);
      } else if (performance.now() - printedAt > PLAIN_PROGRESS_MS) {
        printedAt = performance.now();
        process.stdout.write(`${text}\n`);
      }
    },
  };
}
