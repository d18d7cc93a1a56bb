// A process from its start to its exit code: signals, crashes, bounded stopping.
import { describeError, type Logger } from "./log.ts";
import { aborted, within } from "./waiting.ts";

export interface RunningService extends AsyncDisposable {
  /** Rejects when the service can go on no longer; it is then stopped and the process ends with 1. */
  readonly failed?: Promise<never> | undefined;
}

export interface RunOptions {
  name: string;
  /** `signal` fires when the process is told to stop while still starting. */
  start(signal: AbortSignal): Promise<RunningService>;
  /** Bound on stopping, milliseconds; past it the process ends with 1 and whatever is open is cut off. */
  stopTimeoutMs: number;
  logger: Logger;
}

type StopSignal = "SIGINT" | "SIGTERM";
const SIGNAL_EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/** One Ctrl-C can arrive several times: from the terminal, from npm and from bin/millrace.cjs, which hand it on. */
const SAME_SIGNAL_MS = 300;

/** How long something left open may keep the process alive after its work is done. */
const LINGER_MS = 1_000;

/** Why a start was given up: the process was told to stop meanwhile. */
class StopRequestedError extends Error {
  override readonly name = "StopRequestedError";
}

/**
 * Runs until SIGINT, SIGTERM or a failure, disposes of the service once, and resolves with the exit code: 0 after a clean
 * stop, 1 after a failure. A second signal, at least 300 ms later, ends the process at once with 130 or 143. What nobody caught is logged with its
 * causes and ends the process at once with 1: its state is unknown, and everything acknowledged is durable.
 */
export async function runService(options: RunOptions): Promise<number> {
  const { name, logger } = options;
  const stopping = new AbortController();
  let firstSignalAt = Number.POSITIVE_INFINITY;
  const onSignal = (signal: StopSignal) => {
    if (stopping.signal.aborted) {
      if (performance.now() - firstSignalAt >= SAME_SIGNAL_MS) process.exit(SIGNAL_EXIT_CODES[signal]);
      return;
    }
    firstSignalAt = performance.now();
    logger.info({ signal }, "stopping; a second signal ends the process at once");
    stopping.abort(new StopRequestedError(`${name} was stopped by ${signal}`));
  };
  // Node reports unhandled rejections here too.
  const onCrash = (error: unknown) => {
    logger.fatal({ err: error }, "unexpected failure");
    process.exit(1);
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal).on("uncaughtException", onCrash);
  try {
    return await runUntilStopped(options, stopping.signal);
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal).off("uncaughtException", onCrash);
  }
}

async function runUntilStopped({ start, stopTimeoutMs, logger }: RunOptions, stop: AbortSignal): Promise<number> {
  let service: RunningService;
  try {
    const starting = start(stop);
    service = await Promise.race([starting, aborted(stop).then(() => within(stopTimeoutMs, starting))]);
  } catch (error) {
    if (error === stop.reason) return 0;
    logger.fatal({ err: isBug(error) ? error : describeError(error, 1) }, "cannot start");
    return 1;
  }
  let exitCode = 0;
  try {
    await Promise.race([aborted(stop), ...(service.failed ? [service.failed] : [])]);
  } catch (error) {
    logger.fatal({ err: error }, "service failed");
    exitCode = 1;
  }
  try {
    await within(stopTimeoutMs, Promise.resolve(service[Symbol.asyncDispose]()));
  } catch (error) {
    logger.error({ err: error }, "did not stop cleanly");
    exitCode = 1;
  }
  if (exitCode === 0) logger.info("stopped");
  return exitCode;
}

/** Its stack is wanted; anything else says in its message what to do. */
function isBug(error: unknown): boolean {
  return [TypeError, RangeError, ReferenceError, SyntaxError].some((type) => error instanceof type);
}

/** Ends the process with `code` as soon as nothing is open any more, or a second later whatever is. */
export function exitWith(code: number): void {
  process.exitCode = code;
  // Node 24 can spin for ever in closing what is left of its handles (FreeEnvironment), which exit does not do.
  process.once("beforeExit", () => process.exit(code));
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}
