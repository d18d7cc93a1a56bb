// The spool of @millrace/client: what is on disk, what comes back, and who may use it.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { appendFile, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, vi } from "vitest";
import { type ClientOptions, createClient, SpoolInUseError } from "../../sdk/node/src/index.ts";
import { startScriptedGateway } from "../kit/scripted-gateway.ts";
import { temporaryDirectory } from "../kit/standalone.ts";

const NOWHERE = "http://127.0.0.1:1";
const FAST = { intervalMs: 5, backoffMs: { base: 5, max: 20 } };
const CAPTURE_PROCESS = fileURLToPath(new URL("../../sdk/node/scripts/capture-process.ts", import.meta.url));

function open(dir: string, url: string, options: Partial<ClientOptions> = {}, maxBytes = 2 ** 20) {
  return createClient({ url, ...FAST, spool: { dir, maxBytes }, ...options });
}

function names(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, n) => `e${n + from}`);
}

/** Events that no gateway took, as an earlier process leaves them. */
async function leaveBehind(dir: string, events: readonly string[]): Promise<void> {
  const client = open(dir, NOWHERE);
  for (const event of events) expect(client.capture({ event, properties: { event } })).toBe(true);
  await client.close({ timeoutMs: 0 });
}

async function segments(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => name !== "lock").sort();
}

/** What a start on `dir` sends. */
async function resume(dir: string, onError?: (error: Error) => void) {
  await using gateway = await startScriptedGateway(() => "take");
  const client = open(dir, gateway.url, onError && { onError });
  const { recovered } = client.counters();
  expect(await client.flush()).toBe(true);
  await client.close();
  return { recovered, names: gateway.takenNames(), requests: gateway.requests };
}

it("sends what an earlier process left, in order, what may have been sent before looked up among the stored", async () => {
  await using dir = await temporaryDirectory();
  await leaveBehind(dir.path, names(1_200));
  await leaveBehind(dir.path, names(3, 1_200));
  expect(await segments(dir.path)).toEqual(["0000000001.begun", "0000000002.events"]);
  const resumed = await resume(dir.path);
  expect(resumed.recovered).toBe(1_203);
  expect(resumed.names).toEqual(names(1_203));
  expect(resumed.requests.map(({ request }) => request.checkStored)).toEqual([true, true, false]);
  expect(await segments(dir.path)).toEqual([]);
});

it("keeps an event on disk until the gateway has answered for it", async () => {
  await using dir = await temporaryDirectory();
  let isAway = true;
  await using gateway = await startScriptedGateway(() => (isAway ? { status: 503 } : "take"));
  await using client = open(dir.path, gateway.url);
  client.capture({ event: "e0" });
  await vi.waitFor(() => expect(client.counters().retried).toBeGreaterThan(2));
  expect(await segments(dir.path)).toHaveLength(1);
  isAway = false;
  expect(await client.flush()).toBe(true);
  expect(await segments(dir.path)).toEqual([]);
  expect(gateway.requests.at(-1)?.request.checkStored).toBe(false);
});

it("a record that a kill cut short, or a power cut filled with zeros, costs no other event", async () => {
  await using dir = await temporaryDirectory();
  await leaveBehind(dir.path, names(5));
  const path = join(dir.path, "0000000001.begun");
  const whole = await readFile(path);
  await writeFile(path, whole.subarray(0, whole.length - 3));
  await leaveBehind(dir.path, names(2, 5));
  await appendFile(join(dir.path, "0000000002.events"), Buffer.alloc(4096));
  const errors: string[] = [];
  const resumed = await resume(dir.path, (error) => errors.push(error.message));
  expect(resumed.names).toEqual([...names(4), ...names(2, 5)]);
  expect(errors).toEqual([expect.stringMatching(/0000000002\.events is damaged: what is behind its first 2 events/)]);
  expect(await segments(dir.path)).toEqual(["0000000002.begun.damaged"]);
});

it("a flipped bit is noticed: what is before it is sent, the file is kept", async () => {
  await using dir = await temporaryDirectory();
  await leaveBehind(dir.path, names(10));
  const path = join(dir.path, "0000000001.begun");
  const bytes = await readFile(path);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  await writeFile(path, bytes);
  const errors: string[] = [];
  const resumed = await resume(dir.path, (error) => errors.push(error.message));
  expect(resumed.recovered).toBeLessThan(10);
  expect(resumed.names).toEqual(names(resumed.recovered));
  expect(errors).toHaveLength(1);
  expect(await readFile(`${path}.damaged`)).toEqual(bytes);
});

it("a file that goes bad while it waits is counted as lost, and the events after it are sent", async () => {
  await using dir = await temporaryDirectory();
  await leaveBehind(dir.path, names(3));
  await leaveBehind(dir.path, names(2, 3));
  let isAway = true;
  await using gateway = await startScriptedGateway(() => (isAway ? "hang" : "take"));
  const client = open(dir.path, gateway.url, { batchEvents: 1, requestTimeoutMs: 500 });
  await vi.waitFor(() => expect(gateway.requests.length).toBeGreaterThan(0));
  const path = join(dir.path, "0000000001.begun");
  await writeFile(path, Buffer.alloc((await readFile(path)).length));
  isAway = false;
  expect(await client.flush()).toBe(true);
  expect(gateway.takenNames()).toEqual(["e0", "e3", "e4"]);
  expect(client.counters()).toMatchObject({ recovered: 5, sent: 3, queued: 0, dropped: { spool_failed: 2 } });
  await client.close();
});

it("is bounded, drops what does not fit, and takes events again when there is room", async () => {
  await using dir = await temporaryDirectory();
  let isAway = true;
  await using gateway = await startScriptedGateway(() => (isAway ? { status: 503 } : "take"));
  await using client = open(dir.path, gateway.url, {}, 128 * 1024);
  const text = "x".repeat(1_000);
  let kept = 0;
  for (let n = 0; n < 200; n++) if (client.capture({ event: `e${n}`, properties: { text } })) kept += 1;
  expect(kept).toBeGreaterThan(100);
  expect(kept).toBeLessThan(129);
  expect(client.counters()).toMatchObject({ accepted: kept, queued: kept, dropped: { queue_full: 200 - kept } });
  isAway = false;
  expect(await client.flush()).toBe(true);
  expect(gateway.takenNames()).toEqual(names(kept));
  expect(client.capture({ event: "after", properties: { text } })).toBe(true);
});

it("events over many files, some larger than a request, arrive in order and leave nothing", async () => {
  await using dir = await temporaryDirectory();
  await using gateway = await startScriptedGateway((_request, count) => (count % 5 === 0 ? { status: 500 } : "take"));
  await using client = open(dir.path, gateway.url, { batchBytes: 10_000, batchEvents: 70 });
  for (let n = 0; n < 3_000; n++) {
    const text = "x".repeat(n % 500 === 499 ? 30_000 : 150);
    expect(client.capture({ event: `e${n}`, properties: { text } })).toBe(true);
  }
  expect((await segments(dir.path)).length).toBeGreaterThan(3);
  expect(await client.flush()).toBe(true);
  expect(gateway.takenNames()).toEqual(names(3_000));
  expect(await segments(dir.path)).toEqual([]);
});

it("a directory that is gone fails the event that needs it, and only that", async () => {
  await using dir = await temporaryDirectory();
  const path = join(dir.path, "spool");
  await using gateway = await startScriptedGateway(() => "take");
  const dropped: string[] = [];
  const errors: string[] = [];
  await using client = open(path, gateway.url, {
    onDrop: (reason, events) => dropped.push(...events.map(({ event }) => `${reason} ${event.event}`)),
    onError: (error) => errors.push(error.message),
  });
  await rm(path, { recursive: true });
  expect(client.capture({ event: "e0" })).toBe(false);
  expect(dropped).toEqual(["spool_failed e0"]);
  expect(errors).toEqual([expect.stringContaining("ENOENT")]);
});

it("files that are taken away are counted as lost, and the program goes on", async () => {
  await using dir = await temporaryDirectory();
  await leaveBehind(dir.path, names(3));
  await leaveBehind(dir.path, names(2, 3));
  let isAway = true;
  await using gateway = await startScriptedGateway(() => (isAway ? { status: 503 } : "take"));
  const errors: string[] = [];
  const client = open(dir.path, gateway.url, { onError: (error) => errors.push(error.message) });
  await vi.waitFor(() => expect(gateway.requests.length).toBeGreaterThan(0));
  for (const name of await segments(dir.path)) await rm(join(dir.path, name));
  isAway = false;
  client.capture({ event: "e5" });
  expect(await client.flush()).toBe(true);
  await client.close();
  // The first were in a request already.
  expect(gateway.takenNames()).toEqual([...names(3), "e5"]);
  expect(client.counters()).toMatchObject({ sent: 4, queued: 0, dropped: { spool_failed: 2 } });
  expect(errors.at(-1)).toMatch(/2 events of it cannot be read/);
});

it("refuses a second client of one process, and lets the next one in after close", async () => {
  await using dir = await temporaryDirectory();
  const first = open(dir.path, NOWHERE);
  expect(() => open(dir.path, NOWHERE)).toThrow(SpoolInUseError);
  expect(() => open(dir.path, NOWHERE)).toThrow(
    /is used by another client of this process: give each process a directory/,
  );
  await first.close({ timeoutMs: 0 });
  await open(dir.path, NOWHERE).close({ timeoutMs: 0 });
  expect(await readdir(dir.path)).toEqual([]);
});

it("refuses a directory that a living process has, and takes over from a killed one with all it accepted", async () => {
  await using dir = await temporaryDirectory();
  const spool = join(dir.path, "spool");
  const ledger = join(dir.path, "ledger");
  await writeFile(ledger, Buffer.alloc(8));
  const order = { url: NOWHERE, dir: spool, ledger, events: 1_000_000, eventsPerSecond: 5_000 };
  const child: ChildProcess = fork(CAPTURE_PROCESS, [JSON.stringify(order)]);
  try {
    let accepted = 0;
    child.on("message", (message: { accepted?: number }) => {
      accepted = message.accepted ?? 0;
    });
    await vi.waitFor(() => expect(accepted).toBeGreaterThan(100), { timeout: 10_000 });
    expect(() => open(spool, NOWHERE)).toThrow(`is used by process ${child.pid}`);
  } finally {
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  }
  const accepted = (await readFile(ledger)).readUInt32LE();
  const { recovered } = await resume(spool);
  // One more: killed between the event and the ledger.
  expect(recovered - accepted).toBeGreaterThanOrEqual(0);
  expect(recovered - accepted).toBeLessThanOrEqual(1);
});

it("a holder on another machine or in another container is believed for as long as it shows itself", async () => {
  await using dir = await temporaryDirectory();
  const lock = join(dir.path, "lock");
  await writeFile(lock, JSON.stringify({ token: "t", pid: 1, begun: "1", place: "elsewhere" }));
  expect(() => open(dir.path, NOWHERE)).toThrow(/process 1 of another machine or container: .* try again in \d+ s/);
  const minuteAgo = new Date(Date.now() - 60_000);
  await utimes(lock, minuteAgo, minuteAgo);
  await open(dir.path, NOWHERE).close({ timeoutMs: 0 });
});

it("a lock that was taken over while the process stood still is noticed: nothing of the directory is touched", async () => {
  await using dir = await temporaryDirectory();
  const errors: Error[] = [];
  const client = open(dir.path, NOWHERE, { onError: (error) => errors.push(error) });
  expect(client.capture({ event: "e0" })).toBe(true);
  const files = await segments(dir.path);
  const theirs = JSON.stringify({ token: "theirs", pid: 1, begun: "", place: "another machine" });
  await rm(join(dir.path, "lock"));
  await writeFile(join(dir.path, "lock"), theirs);
  await vi.waitFor(() => expect(errors.some((error) => error instanceof SpoolInUseError)).toBe(true), 10_000);
  expect(client.capture({ event: "e1" })).toBe(false);
  await client.close({ timeoutMs: 0 });
  expect(await readFile(join(dir.path, "lock"), "utf8")).toBe(theirs);
  await rm(join(dir.path, "lock"));
  expect((await segments(dir.path)).map((name) => name.slice(0, 10))).toEqual(files.map((name) => name.slice(0, 10)));
  expect((await resume(dir.path)).names).toEqual(["e0"]);
});

it("a lock of a process id that somebody else has now, or that nobody can read, holds nobody up", async () => {
  await using dir = await temporaryDirectory();
  const client = open(dir.path, NOWHERE);
  const lock = JSON.parse(await readFile(join(dir.path, "lock"), "utf8")) as object;
  await client.close({ timeoutMs: 0 });
  await writeFile(join(dir.path, "lock"), JSON.stringify({ ...lock, token: "t", pid: 1, begun: "7" }));
  await open(dir.path, NOWHERE).close({ timeoutMs: 0 });
  for (const nobodys of ["{", "", "null", "[]"]) {
    await writeFile(join(dir.path, "lock"), nobodys);
    await open(dir.path, NOWHERE).close({ timeoutMs: 0 });
  }
});
