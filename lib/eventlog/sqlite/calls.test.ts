import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import { LogUnavailableError } from "../log.ts";
import { createWorkerCalls } from "./calls.ts";

it.each([
  ["exits", "process.exit(3)"],
  ["throws", "throw new Error('broken')"],
])("calls are refused once the thread %s: those waiting and those to come", async (_, crash) => {
  const source = `require("node:worker_threads").parentPort.once("message", () => { ${crash} })`;
  const { call } = createWorkerCalls(new Worker(source, { eval: true }), "event log x");
  const waiting = [call("epoch", {}), call("bounds", { topic: "t" })];
  for (const outcome of await Promise.allSettled(waiting)) {
    expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(LogUnavailableError) });
  }
  await expect(call("epoch", {})).rejects.toThrow("the thread of event log x ended unexpectedly");
});
