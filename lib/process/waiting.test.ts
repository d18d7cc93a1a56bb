import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { aborted, atMostEvery, createSlots, sleepUnless, TimeoutError, within } from "./waiting.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("work within its time", () => {
  it("is its own result, and leaves no timer behind", async () => {
    expect(await within(1_000, Promise.resolve(7))).toBe(7);
    await expect(within(1_000, Promise.reject(new Error("own")))).rejects.toThrow("own");
    expect(vi.getTimerCount()).toBe(0);
  });

  it("that takes longer is given up, and is told so", async () => {
    let reason: unknown;
    const hung = within(1_000, (signal) => {
      signal.addEventListener("abort", () => {
        reason = signal.reason;
      });
      return new Promise<never>(() => {});
    });
    const given = expect(hung).rejects.toThrow(new TimeoutError("not done within 1000 ms"));
    await vi.advanceTimersByTimeAsync(1_000);
    await given;
    expect(reason).toBeInstanceOf(TimeoutError);
  });
});

it("a signal that has fired, or fires, ends the waiting for it", async () => {
  const controller = new AbortController();
  const waiting = aborted(controller.signal);
  controller.abort();
  await waiting;
  await aborted(controller.signal);
  expect(await sleepUnless(controller.signal, 1_000)).toBe(false);
});

it("something is due once in its time", async () => {
  const [now, later] = [atMostEvery(1_000), atMostEvery(1_000, false)];
  expect([now(), now(), later()]).toEqual([true, false, false]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect([now(), now(), later(), later()]).toEqual([true, false, true, false]);
});

describe("slots", () => {
  const slots = () => createSlots({ count: 1, waitingMax: 2, waitMsMax: 1_000, busy: () => new Error("busy") });

  it("are handed on in the order of asking, one for each that is given back", async () => {
    const { take } = slots();
    const order: string[] = [];
    const release = await take();
    const [a, b] = ["a", "b"].map(async (name) => {
      const give = await take();
      order.push(name);
      return give;
    });
    await expect(take()).rejects.toThrow("busy");
    release();
    release();
    const giveA = await a;
    expect(order).toEqual(["a"]);
    giveA?.();
    await b;
    expect(order).toEqual(["a", "b"]);
  });

  it("are not waited for without end, nor by those who have left", async () => {
    const { take } = slots();
    const release = await take();
    const controller = new AbortController();
    const left = expect(take(controller.signal)).rejects.toThrow("gone");
    const late = expect(take()).rejects.toThrow("busy");
    controller.abort(new Error("gone"));
    await left;
    await vi.advanceTimersByTimeAsync(1_000);
    await late;
    release();
    (await take())();
  });
});
