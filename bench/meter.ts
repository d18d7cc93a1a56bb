// CPU and memory of a process under test, asked over IPC so that only what happens between two questions counts.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface Reading {
  /** User and system time of all threads, microseconds. */
  cpuUs: number;
  /** Highest resident set so far, bytes. */
  rssMax: number;
}

interface Question {
  type: "read" | "stop";
}

/** In the process under test: answers readings, and disposes of `service` when told to stop or when the parent is gone. */
export function serveMeter(service: AsyncDisposable, details: Record<string, unknown>): void {
  const stop = async () => {
    await service[Symbol.asyncDispose]();
    process.disconnect?.();
  };
  process.on("message", ({ type }: Question) => {
    if (type === "stop") {
      void stop();
      return;
    }
    const { user, system } = process.cpuUsage();
    const reading: Reading = { cpuUs: user + system, rssMax: process.resourceUsage().maxRSS * 1024 };
    process.send?.(reading);
  });
  process.on("SIGINT", () => {});
  process.send?.(details);
}

export interface Measured extends AsyncDisposable {
  /** What the process said when it was ready. */
  details: Record<string, unknown>;
  read(): Promise<Reading>;
}

/** Starts a file of bench/ as `millrace` starts its services, and waits until it is ready. */
export async function startMeasured(file: string, args: readonly string[]): Promise<Measured> {
  const child: ChildProcess = fork(fileURLToPath(new URL(file, import.meta.url)), args, {
    execArgv: ["--max-semi-space-size=8"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [details] = (await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => Promise.reject(new Error(`${file} ended with ${code} before it was ready`))),
  ])) as [Record<string, unknown>];
  return {
    details,
    async read() {
      const answer = once(child, "message");
      child.send({ type: "read" } satisfies Question);
      return (await answer)[0] as Reading;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, "exit");
      child.send({ type: "stop" } satisfies Question);
      const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await exit;
      clearTimeout(timer);
    },
  };
}
