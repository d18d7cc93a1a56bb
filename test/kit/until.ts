// Waiting for something that happens in another process, or has no event.
import { setTimeout as sleep } from "node:timers/promises";
import { patience } from "./patience.ts";

/**
 * Asks until it is so; rejects, naming `what`, after `msMax`. Between two questions it leaves twice the time that one takes,
 * or a busy machine would be kept busy by them.
 */
export async function until(
  condition: () => Promise<boolean> | boolean,
  what: string,
  msMax = patience(20_000),
  signal?: AbortSignal,
): Promise<void> {
  const begun = performance.now();
  for (;;) {
    const asked = performance.now();
    if (await condition()) return;
    const now = performance.now();
    if (now - begun > msMax) throw new Error(`not within ${msMax} ms: ${what}`);
    await sleep(Math.min(250, Math.max(10, 2 * (now - asked))), undefined, { signal });
  }
}
