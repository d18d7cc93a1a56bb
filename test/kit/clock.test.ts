import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, it } from "vitest";
import { clockEnvironment, setClock } from "./clock.ts";

const HOUR = 3_600_000;
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-clock-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Says every 20 ms, in the main thread and in a worker, what each way to ask for the time says. */
const PROBE = `
  import { Worker, isMainThread, parentPort } from "node:worker_threads";
  const ask = () => ({
    now: Date.now(), made: new Date().getTime(), written: Date.parse(Date()),
    true: performance.timeOrigin + performance.now(),
    fixed: new Date(2020, 0, 1).getTime() === new Date("2020-01-01T00:00:00").getTime(),
    oneClass: new Date() instanceof Date && new Date(0).constructor === Date,
    extended: new (class extends Date {})().getTime(),
  });
  if (!isMainThread) setInterval(() => parentPort.postMessage(ask()), 20);
  else new Worker(import.meta.filename).on("message", (inWorker) => console.log(JSON.stringify({ main: ask(), inWorker })));
`;

interface Times {
  now: number;
  made: number;
  written: number;
  true: number;
  fixed: boolean;
  oneClass: boolean;
  extended: number;
}

const shiftOf = ({ now, true: truth }: Times) => now - truth;

it("moves Date in all its forms, in threads too, back and forth while monotonic time stays true", async () => {
  const file = join(directory, "clock");
  const probe = join(directory, "probe.mjs");
  await writeFile(probe, PROBE);
  const child = spawn(process.execPath, [probe], {
    env: clockEnvironment(file),
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async () => {
      const { value } = (await lines.next()) as IteratorYieldResult<string>;
      return JSON.parse(value) as { main: Times; inWorker: Times };
    };
    const until = async (ms: number) => {
      const deadline = performance.now() + 5_000;
      for (;;) {
        const seen = await next();
        if (Object.values(seen).every((times) => Math.abs(shiftOf(times) - ms) < 1_000)) return seen;
        if (performance.now() > deadline) throw new Error(`no shift by ${ms}: ${JSON.stringify(seen)}`);
      }
    };
    await until(0);
    for (const ms of [3 * HOUR, -HOUR / 6]) {
      await setClock(file, ms);
      for (const times of Object.values(await until(ms))) {
        expect(Math.abs(times.made - times.now)).toBeLessThan(50);
        expect(Math.abs(times.extended - times.now)).toBeLessThan(50);
        expect(Math.abs(times.written - times.now)).toBeLessThan(1_050);
        expect(times).toMatchObject({ fixed: true, oneClass: true });
        expect(Math.abs(times.true - Date.now())).toBeLessThan(2_000);
      }
    }
    await setClock(file, 0);
    await until(0);
  } finally {
    child.kill("SIGKILL");
  }
});

it("does nothing in a process that names no file, and does not keep a process alive", async () => {
  const file = join(directory, "ahead");
  await setClock(file, HOUR);
  const shown = async (env: Record<string, string>) => {
    const child = spawn(process.execPath, ["-p", "Date.now()"], { env, stdio: ["ignore", "pipe", "inherit"] });
    const [printed, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
    expect(code).toBe(0);
    return Number(printed) - Date.now();
  };
  const { NODE_OPTIONS = "" } = clockEnvironment(file);
  expect(Math.abs(await shown({ NODE_OPTIONS }))).toBeLessThan(5_000);
  expect(await shown(clockEnvironment(file))).toBeGreaterThan(HOUR - 5_000);
});

it("a file without a number is a mistake that ends the process", async () => {
  const file = join(directory, "broken");
  await setClock(file, Number.NaN);
  const child = spawn(process.execPath, ["-e", ""], {
    env: clockEnvironment(file),
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [printed, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  expect(code).toBe(1);
  expect(printed).toContain("has no number of milliseconds: NaN");
});
