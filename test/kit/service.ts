// One of the cluster's processes under one name, however often it is started again.
import { setTimeout as sleep } from "node:timers/promises";
import { killWithUs } from "./guard.ts";
import { type LogLine, type Spawned, spawnMillrace } from "./processes.ts";

export interface ServiceOptions {
  name: string;
  /** The command of `millrace`. */
  command: string;
  /** A function is asked at each start. */
  env: Record<string, string> | (() => Record<string, string>);
  /** The log line that says it can be used. */
  readyMessage: string;
  /** Called when the process has ended and nobody here has told it to. It is started again, as an orchestrator does. */
  onEnded(account: string): void;
}

export interface Service extends AsyncDisposable {
  readonly name: string;
  /** Throws when it is not running. */
  readonly process: Spawned;
  readonly isRunning: boolean;
  /** The fields of the line that said it was ready. */
  readonly ready: LogLine;
  /** Every process it has been, oldest first. */
  readonly lives: readonly Spawned[];
  /** Resolves when it is ready; rejects when it ends before. */
  start(): Promise<void>;
  /** Sends the signal and resolves with the exit code; null: killed by the signal. */
  stop(signal: NodeJS.Signals): Promise<number | null>;
}

const RESTART_MS = 500;

export function createService({ name, command, env, readyMessage, onEnded }: ServiceOptions): Service {
  const lives: Spawned[] = [];
  let current: Spawned | undefined;
  let ready: LogLine = {};
  let isDisposed = false;

  async function start(): Promise<void> {
    if (isDisposed) throw new Error(`${name} is not needed any more`);
    if (current) throw new Error(`${name} is running already`);
    const started = spawnMillrace([command], typeof env === "function" ? env() : env);
    killWithUs(started);
    current = started;
    lives.push(started);
    ready = await started.logged(readyMessage);
    void started.exited.then((code) => {
      if (current === started) return startAgain(started, code);
    });
  }

  async function startAgain(ended: Spawned, code: number | null): Promise<void> {
    current = undefined;
    onEnded(`${name} (pid ${ended.pid}) ended by itself with ${code}: ${ended.lines.at(-1) ?? ""}`);
    await sleep(RESTART_MS);
    if (current || isDisposed) return;
    await start().catch((error: Error) => onEnded(`${name} did not start again: ${error.message}`));
  }

  async function stop(signal: NodeJS.Signals): Promise<number | null> {
    const stopping = current;
    if (!stopping) return null;
    current = undefined;
    return stopping.stop(signal);
  }

  return {
    name,
    get process() {
      if (!current) throw new Error(`${name} is not running`);
      return current;
    },
    get isRunning() {
      return current !== undefined;
    },
    get ready() {
      return ready;
    },
    lives,
    start,
    stop,
    async [Symbol.asyncDispose]() {
      isDisposed = true;
      await stop("SIGKILL");
    },
  };
}
