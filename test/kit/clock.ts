// Loaded into a process by `node --import`: moves the clock that people set, Date, and leaves monotonic time as it is.
// What asks the system itself still gets the truth: performance.timeOrigin, Intl without an argument, native code.
import { readFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";

const POLL_MS = 100;
const FILE = process.env.MILLRACE_CHAOS_CLOCK;

/** Environment of a process whose clock follows `file`, and the clocks of its workers and children. */
export function clockEnvironment(file: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${import.meta.url}`, MILLRACE_CHAOS_CLOCK: file };
}

/** Shifts the clocks of all processes that follow `file` by `ms` (0: the truth) within 100 ms. */
export async function setClock(file: string, ms: number): Promise<void> {
  // Renamed into place: a reader must not see half a number.
  await writeFile(`${file}.next`, String(ms));
  await rename(`${file}.next`, file);
}

function follow(file: string): void {
  const trueNow = Date.now;
  let shiftMs = 0;
  const now = () => trueNow() + shiftMs;
  const poll = () => {
    shiftMs = readShift(file);
  };
  poll();
  setInterval(poll, POLL_MS).unref();
  globalThis.Date = shifted(Date, now);
}

/** A proxy, so that dates made before and after are of one class. */
function shifted(trueDate: DateConstructor, now: () => number): DateConstructor {
  const shiftedDate = new Proxy(trueDate, {
    apply: (target) => new target(now()).toString(),
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  });
  trueDate.now = now;
  trueDate.prototype.constructor = shiftedDate;
  return shiftedDate;
}

function readShift(file: string): number {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    // Nobody has set the clock yet.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
  const ms = Number(text);
  if (!Number.isFinite(ms)) throw new Error(`${file} has no number of milliseconds: ${text}`);
  return ms;
}

if (FILE !== undefined) follow(FILE);
