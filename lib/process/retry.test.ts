import { expect, it } from "vitest";
import { type Retry, retryForever } from "./retry.ts";

class BusyError extends Error {}

function options(overrides: Partial<Parameters<typeof retryForever>[1]> = {}) {
  const retries: Retry[] = [];
  return {
    retries,
    signal: new AbortController().signal,
    baseMs: 1,
    capMs: 4,
    isTransient: (error: unknown) => error instanceof BusyError,
    onRetry: (retry: Retry) => void retries.push(retry),
    ...overrides,
  };
}

function failing(times: number, error: Error) {
  let calls = 0;
  return async () => {
    calls++;
    if (calls <= times) throw error;
    return calls;
  };
}

it("retries a transient failure until it succeeds", async () => {
  const given = options();
  await expect(retryForever(failing(3, new BusyError("busy")), given)).resolves.toBe(4);
  expect(given.retries.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
});

it("doubles the bound of the pause up to the cap", async () => {
  const given = options({ random: () => 1 });
  await retryForever(failing(5, new BusyError("busy")), given);
  expect(given.retries.map(({ delayMs }) => delayMs)).toEqual([1, 2, 4, 4, 4]);
});

it("pauses anywhere between nothing and the bound", async () => {
  const given = options({ random: () => 0.25 });
  await retryForever(failing(2, new BusyError("busy")), given);
  expect(given.retries.map(({ delayMs }) => delayMs)).toEqual([0.25, 0.5]);
});

it("keeps a finite pause after thousands of attempts", async () => {
  const given = options({ random: () => 0 });
  await expect(retryForever(failing(1_100, new BusyError("busy")), given)).resolves.toBe(1_101);
  expect(given.retries.every(({ delayMs }) => delayMs === 0)).toBe(true);
});

it("passes on at once what is not transient", async () => {
  const given = options();
  await expect(retryForever(failing(1, new TypeError("bug")), given)).rejects.toThrow("bug");
  expect(given.retries).toEqual([]);
});

it("stops in the middle of a pause with the signal's reason", async () => {
  const controller = new AbortController();
  const given = options({ signal: controller.signal, baseMs: 3_600_000, capMs: 3_600_000, random: () => 1 });
  const reason = new Error("partition lost");
  const result = retryForever(failing(9, new BusyError("busy")), {
    ...given,
    onRetry: () => queueMicrotask(() => controller.abort(reason)),
  });
  await expect(result).rejects.toBe(reason);
});

it("does not begin an attempt when already aborted", async () => {
  let calls = 0;
  const attempt = async () => {
    calls++;
  };
  await expect(retryForever(attempt, options({ signal: AbortSignal.abort(new Error("stopped")) }))).rejects.toThrow(
    "stopped",
  );
  expect(calls).toBe(0);
});

it("hands the signal to the attempt and reports its reason rather than the attempt's failure", async () => {
  const controller = new AbortController();
  const attempt = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new BusyError("aborted halfway")));
      controller.abort(new Error("stopping"));
    });
  await expect(retryForever(attempt, options({ signal: controller.signal }))).rejects.toThrow("stopping");
});
