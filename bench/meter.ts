// CPU and memory of a process under test, asked over IPC so that only what happens between two questions counts.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface Reading {
  /** User and system time of all threads, microseconds. */
  cpuUs: number;
  /** Highest resident set so far, MB of 10^6 bytes. */
  rssMaxMb: number;
}

interface Question {
  type: "read" | "stop";
}

const STOP_MS_MAX = 20_000;

/**
 * In the process under test: answers readings, and disposes of `service` when told to stop. When the parent is gone the
 * process ends at once: nobody is left to measure for, and the log it writes may be gone too.
 */
export function serveMeter(service: AsyncDisposable, details: Record<string, unknown>): void {
  let stopping = false;
  const stop = async () => {
    stopping = true;
    await service[Symbol.asyncDispose]();
    process.disconnect();
  };
  process.on("message", ({ type }: Question) => {
    if (type === "stop") void stop();
    else process.send?.({ cpuUs: cpuUs(), rssMaxMb: rssMaxMb() } satisfies Reading);
  });
  process.on("disconnect", () => {
    if (!stopping) process.exit(1);
  });
  // Ctrl-C in a terminal reaches the whole group; the parent decides in which order things end.
  process.on("SIGINT", () => {});
  process.send?.(details);
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/**
 * Linux hands ru_maxrss on over fork and exec, so that a small child of a large parent reports its parent's size; VmHWM
 * begins anew with the program.
 */
export function rssMaxMb(pid: number | "self" = "self"): number {
  if (process.platform !== "linux") return (process.resourceUsage().maxRSS * 1024) / 1e6;
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  if (kibibytes === undefined) throw new Error(`/proc/${pid}/status has no VmHWM`);
  return (Number(kibibytes) * 1024) / 1e6;
}

export interface Measured extends AsyncDisposable {
  /** What the process said when it was ready. */
  readonly details: Record<string, unknown>;
  /** Rejects when the process has ended. */
  read(): Promise<Reading>;
  /** Fires when the process ends before it is told to. */
  readonly ended: AbortSignal;
}

/** Starts a file of bench/ as `millrace` starts its services, and waits until it is ready. */
export async function startMeasured(file: string, args: readonly string[]): Promise<Measured> {
  const child: ChildProcess = fork(fileURLToPath(new URL(file, import.meta.url)), args, {
    execArgv: ["--max-semi-space-size=8"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const ended = new AbortController();
  let stopping = false;
  child.once("exit", (code, signal) => {
    if (!stopping) ended.abort(new Error(`${file} ended by itself (${signal ?? code})`));
  });

  async function hear<T>(): Promise<T> {
    ended.signal.throwIfAborted();
    try {
      const [message] = await once(child, "message", { signal: ended.signal });
      return message as T;
    } catch (error) {
      ended.signal.throwIfAborted();
      throw error;
    }
  }

  const details = await hear<Record<string, unknown>>();
  return {
    details,
    ended: ended.signal,
    read() {
      const answer = hear<Reading>();
      if (!ended.signal.aborted) child.send({ type: "read" } satisfies Question);
      return answer;
    },
    async [Symbol.asyncDispose]() {
      if (stopping || ended.signal.aborted) return;
      stopping = true;
      const exit = once(child, "exit");
      child.send({ type: "stop" } satisfies Question);
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
      await exit;
      clearTimeout(timer);
    },
  };
}
