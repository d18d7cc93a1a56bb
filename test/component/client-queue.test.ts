// The queue behind capture() of @millrace/client: bounds, hooks, flush and close.
import { expect, it, vi } from "vitest";
import { type ClientOptions, createClient } from "../../sdk/node/src/index.ts";
import { captureMany, names, scene } from "../kit/client-scene.ts";

it("never throws: what cannot be sent is dropped with its reason", async () => {
  await using s = await scene([]);
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const hostile = {
    get boom() {
      throw new Error("no");
    },
  };
  const unprintable = {
    toJSON() {
      throw Object.create(null);
    },
  };
  const wrong = [
    { event: "cycle", properties: cycle },
    { event: "big", properties: { n: 1n } },
    { event: "getter", properties: hostile },
    { event: "toJSON", properties: unprintable },
    { event: "list", properties: [1] },
    { event: "huge", properties: { text: "x".repeat(1_000_000) } },
    { event: "wide", properties: { text: "€".repeat(400_000) } },
    { event: "  " },
    { event: 7 as unknown as string },
    { event: "id", id: "" },
    { event: "who", distinctId: 5 as unknown as string },
    { event: "value", value: Number.NaN },
    { event: "time", time: "yesterday" },
    undefined as unknown as { event: string },
  ];
  for (const event of wrong) expect(s.client.capture(event)).toBe(false);
  expect(s.dropped.map(({ reason }) => reason)).toEqual(
    wrong.map((event) => (event?.event === "huge" || event?.event === "wide" ? "too_large" : "invalid")),
  );
  expect(s.dropped[0]?.event.message).toMatch(/^properties cannot be written as JSON: .*circular/);
  s.client.capture({ event: "fine" });
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(["fine"]);
});

it("hooks that throw cost no event", async () => {
  const throws = () => {
    throw new Error("a fault of the caller");
  };
  await using s = await scene([{ status: 500 }], {
    onDrop: throws,
    onError: throws,
    logger: { info: throws, warn: throws },
  });
  s.client.capture({ event: "" });
  captureMany(s.client, 2);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(names(2));
});

it("the queue is bounded by count and by bytes, and what does not fit is counted", async () => {
  await using s = await scene(["hang"], { maxQueueEvents: 50, maxQueueBytes: 20_000 });
  captureMany(s.client, 60);
  expect(s.client.counters()).toMatchObject({ accepted: 50, queued: 50, dropped: { queue_full: 10 } });
  expect(s.dropped.map(({ event }) => event.event.event)).toEqual(names(10, 50));
  await using large = await scene(["hang"], { maxQueueBytes: 20_000 });
  for (let n = 0; n < 5; n++) large.client.capture({ event: `e${n}`, properties: { text: "x".repeat(6_000) } });
  expect(large.client.counters()).toMatchObject({ accepted: 3, dropped: { queue_full: 2 } });
});

it("properties are taken as they are at the moment of capture", async () => {
  await using s = await scene([]);
  const properties = { step: 1 };
  s.client.capture({ event: "a", properties });
  properties.step = 2;
  await s.client.flush();
  expect(s.gateway.taken[0]?.propertiesKind.value).toBe('{"step":1}');
});

it("flush resolves when what was captured before it is through, not what came after", async () => {
  await using s = await scene(["take", "hang"], { requestTimeoutMs: 60_000 });
  captureMany(s.client, 10);
  const first = s.client.flush();
  captureMany(s.client, 1, 10);
  expect(await first).toBe(true);
  expect(await s.client.flush({ timeoutMs: 50 })).toBe(false);
  expect(s.client.counters().queued).toBe(1);
});

it("close ends a flush that still waits, which then says that not all is through", async () => {
  await using s = await scene(["hang"]);
  captureMany(s.client, 1);
  const flushing = s.client.flush({ timeoutMs: 60_000 });
  await s.client.close({ timeoutMs: 20 });
  expect(await flushing).toBe(false);
  expect(await s.client.flush()).toBe(false);
  expect(s.dropped.map(({ reason }) => reason)).toEqual(["closed"]);
});

it("waitUntil is given the work of each burst", async () => {
  const work: Promise<unknown>[] = [];
  await using s = await scene([], { intervalMs: 60_000, waitUntil: (promise) => work.push(promise) });
  captureMany(s.client, 3);
  expect(work).toHaveLength(1);
  await Promise.all(work);
  expect(s.gateway.takenNames()).toEqual(names(3));
  captureMany(s.client, 1, 3);
  await Promise.all(work);
  expect(work).toHaveLength(2);
  expect(s.gateway.takenNames()).toEqual(names(4));
});

it("waitUntil is given what is captured in an outage too, when the work before it has given up", async () => {
  const work: Promise<unknown>[] = [];
  const url = "http://127.0.0.1:1";
  await using s = await scene([], { url, closeTimeoutMs: 0, waitUntil: (promise) => work.push(promise) });
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  try {
    captureMany(s.client, 1);
    await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0));
    await vi.advanceTimersByTimeAsync(31_000);
    await work[0];
  } finally {
    vi.useRealTimers();
  }
  expect(s.client.counters().queued).toBe(1);
  captureMany(s.client, 1, 1);
  expect(work).toHaveLength(2);
});

it("a waitUntil that throws, as platforms do outside of a request, costs no event", async () => {
  const waitUntil = () => {
    throw new Error("outside of a request");
  };
  await using s = await scene([], { waitUntil });
  expect(s.client.capture({ event: "e0" })).toBe(true);
  expect(await s.client.flush()).toBe(true);
  expect(s.gateway.takenNames()).toEqual(["e0"]);
});

it("onDrop may capture: what is dropped of that is counted, and not told again", async () => {
  const told: string[] = [];
  await using s = await scene(["hang"], {
    maxQueueEvents: 1,
    onDrop: (reason, events) => {
      told.push(...events.map(({ event }) => `${reason} ${event.event}`));
      s.client.capture({ event: "dropped" });
    },
  });
  captureMany(s.client, 3);
  expect(told).toEqual(["queue_full e1", "queue_full e2"]);
  expect(s.client.counters().dropped.queue_full).toBe(4);
});

it("a time without end is one, and not none; what is no time is refused", async () => {
  await using s = await scene([{ status: 500 }, { status: 500 }]);
  captureMany(s.client, 1);
  expect(await s.client.flush({ timeoutMs: Number.POSITIVE_INFINITY })).toBe(true);
  const published = await s.client.publish({ event: "e1" }, { timeoutMs: 2 ** 40 });
  expect(published.accepted).toBe(1);
  await expect(s.client.flush({ timeoutMs: Number.NaN })).rejects.toThrow(TypeError);
  await expect(s.client.publish({ event: "e" }, { timeoutMs: -1 })).rejects.toThrow("timeoutMs: expected milliseconds");
});

it("a queue of small batches takes no more memory than it may", async () => {
  await using s = await scene(["hang"], { batchEvents: 1, maxQueueEvents: 20_000 });
  const before = process.memoryUsage().arrayBuffers;
  captureMany(s.client, 20_000);
  expect(s.client.counters().queued).toBe(20_000);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000 * 500);
});

it("one line says that the gateway is away, one that it is back", async () => {
  const lines: string[] = [];
  const logger = {
    info: (text: string) => lines.push(`info ${text}`),
    warn: (text: string) => lines.push(`warn ${text}`),
  };
  await using s = await scene([{ status: 500 }, { status: 500 }, { status: 500 }], { logger });
  captureMany(s.client, 1);
  await s.client.flush();
  const away = expect.stringMatching(/^warn .* does not take events, they wait: .*HTTP 500/);
  expect(lines).toEqual([away, `info ${s.gateway.url} takes events again`]);
});

it("options that cannot be are refused at once", () => {
  const make = (options: Partial<ClientOptions>) => () => createClient({ url: "http://localhost:1", ...options });
  expect(make({ url: "localhost:8080" })).toThrow("url: expected http or https");
  expect(make({ url: "nonsense" })).toThrow(TypeError);
  expect(make({ transport: "soap" as "grpc" })).toThrow("transport: expected connect, grpc or grpc-web");
  expect(make({ apiKey: "two words" })).toThrow("apiKey:");
  expect(make({ batchEvents: 0 })).toThrow("batchEvents: expected a whole number");
  expect(make({ spool: { dir: "" } })).toThrow("spool.dir:");
});
