// Millrace's commands as separate processes, as a user or an orchestrator runs them.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { patience } from "./patience.ts";

/** The sources, or what `npm test` has made of them, which starts in half of the time. */
export const COMMANDS =
  process.env.MILLRACE_TEST_COMMANDS ?? fileURLToPath(new URL("../../services/cli.ts", import.meta.url));

/** What every process of a test gets of our environment: no setting of ours, but the cache that halves its start. */
export function plainEnvironment(): Record<string, string> {
  const { PATH = "", NODE_COMPILE_CACHE } = process.env;
  return NODE_COMPILE_CACHE === undefined ? { PATH } : { PATH, NODE_COMPILE_CACHE };
}

/** Settings with which `millrace start` disturbs nobody. */
export const FREE_PORTS = { PORT: "0", CLICKHOUSE_HTTP_PORT: "0", STATS_PORT: "0", RELAY_PORT: "0" };

export interface LogLine {
  message?: string;
  [field: string]: unknown;
}

export interface Spawned extends AsyncDisposable {
  readonly pid: number;
  /** Everything printed so far, stdout and stderr, line by line. */
  readonly lines: readonly string[];
  readonly exited: Promise<number | null>;
  /** Resolves with the first log line that has this message; rejects when the process ends before it. */
  logged(message: string, timeoutMs?: number): Promise<LogLine>;
  onLog(listener: (line: LogLine) => void): void;
  /** Sends the signal and waits for the end. */
  stop(signal: NodeJS.Signals): Promise<number | null>;
}

/** Program and first arguments of `millrace`: this checkout's, unless a test has another one. */
const MILLRACE = [process.execPath, "--max-semi-space-size=8", COMMANDS];

/** `millrace <args>` with nothing but `env` and PATH in its environment. Killed with -9 when disposed. */
export function spawnMillrace(
  args: readonly string[],
  env: Record<string, string> = {},
  [program = "", ...first]: readonly string[] = MILLRACE,
): Spawned {
  const child: ChildProcess = spawn(program, [...first, ...args], {
    env: { ...plainEnvironment(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  const listeners = new Set<(line: LogLine) => void>();
  const exited = once(child, "exit").then(([code]) => code as number | null);
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue;
    createInterface({ input: stream }).on("line", (text) => {
      lines.push(text);
      const line = parseLine(text);
      if (line) for (const listener of listeners) listener(line);
    });
  }

  async function logged(message: string, timeoutMs = patience(60_000)): Promise<LogLine> {
    const seen = lines.map(parseLine).find((line) => line?.message === message);
    if (seen) return seen;
    const found = Promise.withResolvers<LogLine>();
    const listener = (line: LogLine) => {
      if (line.message === message) found.resolve(line);
    };
    listeners.add(listener);
    const tail = () => lines.slice(-20).join("\n");
    const timer = setTimeout(
      () => found.reject(new Error(`no "${message}" in ${timeoutMs} ms:\n${tail()}`)),
      timeoutMs,
    );
    void exited.then(() => found.reject(new Error(`ended before "${message}":\n${tail()}`)));
    try {
      return await found.promise;
    } finally {
      clearTimeout(timer);
      listeners.delete(listener);
    }
  }

  async function stop(signal: NodeJS.Signals): Promise<number | null> {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  }

  return {
    pid: child.pid ?? 0,
    lines,
    exited,
    logged,
    onLog: (listener) => listeners.add(listener),
    stop,
    async [Symbol.asyncDispose]() {
      await stop("SIGKILL");
    },
  };
}

function parseLine(text: string): LogLine | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    // Not a log line; `lines` has it.
    return undefined;
  }
}
