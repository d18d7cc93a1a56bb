// A collector that runs a shell command and takes the number it prints.
import { spawn } from "node:child_process";
import type { Collector } from "../../sdk/node/src/index.ts";

const COMMAND_MS_MAX = 9_000;
const OUTPUT_CHARS_MAX = 4_096;

/**
 * A collector that runs `sh -c command` and takes the number it prints. It rejects when the command fails, prints anything
 * else, or takes longer than 9 s; it is then killed with all that it started, as it is when `signal` fires.
 */
export function createCommandCollector(command: string, signal: AbortSignal): Collector {
  return () =>
    new Promise((resolve, reject) => {
      // A process group of its own, so that a pipeline can be killed as a whole.
      const child = spawn("/bin/sh", ["-c", command], { stdio: ["ignore", "pipe", "ignore"], detached: true });
      const give = (error: Error) => {
        reject(error);
        killGroup(child.pid);
      };
      const timer = setTimeout(() => give(new Error(`ran longer than ${COMMAND_MS_MAX} ms`)), COMMAND_MS_MAX);
      const onAbort = () => give(new Error("the agent is stopping"));
      signal.addEventListener("abort", onAbort, { once: true });
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (output.length > OUTPUT_CHARS_MAX) give(new Error("printed more than a number"));
      });
      child.once("error", reject);
      child.once("close", (code) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        const value = output.trim() === "" ? Number.NaN : Number(output);
        if (code !== 0) reject(new Error(`ended with ${code ?? "a signal"}`));
        else if (Number.isFinite(value)) resolve(value);
        else reject(new Error(`printed ${JSON.stringify(output.slice(0, 80))}, which is not a number`));
      });
    });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    // It has ended by itself meanwhile.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
