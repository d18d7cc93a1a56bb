// kfake, franz-go's Kafka in memory: a second implementation of the broker, so that what holds for one broker alone is seen.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { goProgram } from "./drivers.ts";

/** Three brokers in one process, gone with all they hold when disposed. Needs Go; the first start fetches and builds it. */
export async function startKfake(): Promise<AsyncDisposable & { readonly brokers: string[] }> {
  const child = spawn(await goProgram("kfake"), { stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const [line] = await Promise.race([
    once(createInterface(child.stdout), "line"),
    exited.then(([code]) => Promise.reject(new Error(`kfake ended with ${code}`))),
  ]);
  return {
    brokers: String(line).split(","),
    async [Symbol.asyncDispose]() {
      child.stdin.end(); // It ends with its standard input, also when this process is killed.
      await exited;
    },
  };
}
