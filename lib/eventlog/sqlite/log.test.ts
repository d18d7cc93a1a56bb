import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { LogUnavailableError, type OpenLog, RecordTooLargeError } from "../log.ts";
import { createSqliteLog, type SqliteLogOptions } from "./log.ts";

let directory: string;
let open: OpenLog[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-log-"));
  open = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(open.map((log) => log[Symbol.asyncDispose]()));
  await rm(directory, { recursive: true });
});

async function start(options: Partial<SqliteLogOptions> = {}): Promise<OpenLog> {
  const log = await createSqliteLog({ file: join(directory, "log.db"), ...options });
  open.push(log);
  return log;
}

const value = (bytes: number) => ({ key: Buffer.from("k"), value: new Uint8Array(bytes) });
const wanted = { from: 0, maxRecords: 10, maxBytes: 1e6, maxWaitMs: 0 };

async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => expect.unreachable("it resolved"),
    (error: Error) => error,
  );
}

it("records, commits and the epoch outlive the process's handle", async () => {
  const first = await start();
  await first.createTopics([{ topic: "t", partitions: 12 }]);
  await first.append("t", [value(3), value(4)]);
  const epoch = await first.epoch();
  await first[Symbol.asyncDispose]();
  const second = await start();
  expect(await second.epoch()).toBe(epoch);
  expect((await second.tail("t", 0, wanted)).map(({ value }) => value.byteLength)).toEqual([3, 4]);
});

it("another file has another epoch", async () => {
  const [one, two] = [await start(), await start({ file: join(directory, "other.db") })];
  expect(await one.epoch()).not.toBe(await two.epoch());
});

it("offsets are not used again after a trim of everything and a restart", async () => {
  const first = await start();
  await first.createTopics([{ topic: "t", partitions: 1 }]);
  await first.append("t", [value(1), value(1)]);
  await first.trim("t", 0, 2);
  await first[Symbol.asyncDispose]();
  const second = await start();
  expect(await second.bounds("t")).toEqual([{ partition: 0, start: 2, end: 2 }]);
  expect(await second.append("t", [value(1)])).toEqual([{ partition: 0, offset: 2 }]);
});

it("a trim of more records than one step takes them all", async () => {
  const log = await start({ file: ":memory:" });
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  await log.append("t", Array(5000).fill(value(1)));
  await log.trim("t", 0, 4999);
  expect(await log.bounds("t")).toEqual([{ partition: 0, start: 4999, end: 5000 }]);
});

it("a record of 4 MiB is taken and one byte more is refused", async () => {
  const log = await start();
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  const most = 4 * 1024 * 1024 - 1;
  expect(await log.append("t", [value(most)])).toEqual([{ partition: 0, offset: 0 }]);
  expect(await failure(log.append("t", [value(1), value(most + 1)]))).toBeInstanceOf(RecordTooLargeError);
  expect(await log.bounds("t")).toEqual([{ partition: 0, start: 0, end: 1 }]);
});

it("an append to an unknown topic is refused and its neighbours are stored", async () => {
  const log = await start();
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  const [good, bad, alsoGood] = await Promise.allSettled([
    log.append("t", [value(1)]),
    log.append("nowhere", [value(1)]),
    log.append("t", [value(1)]),
  ]);
  expect([good?.status, bad?.status, alsoGood?.status]).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect((bad as PromiseRejectedResult).reason).toMatchObject({
    name: "LogUnavailableError",
    message: expect.stringContaining("millrace migrate"),
  });
  expect(await log.bounds("t")).toEqual([{ partition: 0, start: 0, end: 2 }]);
});

it("an aborted append rejects with the signal's reason", async () => {
  const log = await start();
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  const reason = new Error("the client went away");
  expect(await failure(log.append("t", [value(1)], AbortSignal.abort(reason)))).toBe(reason);
  expect(await log.bounds("t")).toEqual([{ partition: 0, start: 0, end: 0 }]);
});

it("a second owner is refused with the remedy until the first has closed", async () => {
  const first = await start();
  const refused = await failure(createSqliteLog({ file: join(directory, "log.db") }));
  expect(refused).toBeInstanceOf(LogUnavailableError);
  expect(refused.message).toMatch(/in use by another process: .*DATA_DIR/);
  await first[Symbol.asyncDispose]();
  await (await start()).check();
});

it("a missing file opened read-only is an error and stays missing", async () => {
  const refused = await failure(createSqliteLog({ file: join(directory, "log.db"), readOnly: true }));
  expect(refused).toBeInstanceOf(LogUnavailableError);
  expect(refused.message).toContain("does not exist");
  expect(await readdir(directory)).toEqual([]);
});

it("a read-only log refuses to write", async () => {
  await (await start()).createTopics([{ topic: "t", partitions: 1 }]);
  const reader = await start({ readOnly: true });
  const signal = new AbortController().signal;
  const writes = [
    reader.append("t", [value(1)]),
    reader.trim("t", 0, 0),
    reader.createTopics([]),
    reader.check(),
    reader.consume({ topic: "t", group: "g", onAssigned: () => Promise.resolve(), signal }),
  ];
  for (const write of writes) expect((await failure(write)).message).toContain("read-only");
});

it.each([
  [
    "a file of another kind",
    (file: string) => writeFile(file, "not a database, but long enough to look like one".repeat(20)),
  ],
  [
    "a torn file",
    async (file: string) => {
      const log = await createSqliteLog({ file });
      await log.createTopics([{ topic: "t", partitions: 1 }]);
      await log[Symbol.asyncDispose]();
      await truncate(file, 4096);
    },
  ],
])("%s is refused as damaged", async (_, damage) => {
  await damage(join(directory, "log.db"));
  const refused = await failure(start().then((log) => log.bounds("t")));
  expect(refused).toBeInstanceOf(LogUnavailableError);
  expect(refused.message).toMatch(/is damaged: restore .* from a copy/);
});

it("a full log says so with the remedy, keeps what it acknowledged, and takes more once there is room", async () => {
  const log = await start({ maxFileBytes: 1024 * 1024 });
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  let stored = 0;
  let refused: Error | undefined;
  while (!refused) {
    const appended = await log.append("t", Array(50).fill(value(1000))).catch((error: Error) => {
      refused = error;
      return [];
    });
    stored += appended.length;
  }
  expect(refused).toBeInstanceOf(LogUnavailableError);
  expect(refused.message).toMatch(/is full: free space on .* or set DATA_DIR to another disk/);
  expect((await failure(log.check())).message).toContain("is full");
  expect(await log.bounds("t")).toEqual([{ partition: 0, start: 0, end: stored }]);
  expect(await log.tail("t", 0, { ...wanted, maxRecords: stored, maxBytes: 1e9 })).toHaveLength(stored);
  await log.trim("t", 0, 300);
  await log.check();
  expect(await log.append("t", Array(50).fill(value(1000)))).toHaveLength(50);
});

it("a closed log refuses calls", async () => {
  const log = await start();
  await log[Symbol.asyncDispose]();
  expect((await failure(log.bounds("t"))).message).toContain("is closed");
});

it("close waits for appends already handed over", async () => {
  const log = await start();
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  const appends = Array.from({ length: 50 }, () => log.append("t", [value(100)]));
  await log[Symbol.asyncDispose]();
  expect((await Promise.all(appends)).flat()).toHaveLength(50);
  expect(await (await start()).bounds("t")).toEqual([{ partition: 0, start: 0, end: 50 }]);
});

it("a partition the log does not have is refused", async () => {
  const log = await start({ file: ":memory:" });
  await log.createTopics([{ topic: "t", partitions: 4 }]);
  expect((await failure(log.tail("t", 1, wanted))).message).toContain("has no partition 1");
  expect((await failure(log.trim("t", 1, 0))).message).toContain("has no partition 1");
});

it("the predecessor gets the partition back when the newest consumer leaves", async () => {
  const log = await start({ file: ":memory:" });
  await log.createTopics([{ topic: "t", partitions: 1 }]);
  const assignedTo: string[] = [];
  const leaving = { first: new AbortController(), second: new AbortController() };
  const join = (name: "first" | "second") =>
    log.consume({
      topic: "t",
      group: "g",
      async onAssigned(assignment) {
        assignedTo.push(name);
        await new Promise<void>((resolve) => assignment.lost.addEventListener("abort", () => resolve()));
      },
      signal: leaving[name].signal,
    });
  const first = join("first");
  await vi.waitFor(() => expect(assignedTo).toEqual(["first"]));
  const second = join("second");
  await vi.waitFor(() => expect(assignedTo).toEqual(["first", "second"]));
  leaving.second.abort();
  await second;
  await vi.waitFor(() => expect(assignedTo).toEqual(["first", "second", "first"]));
  leaving.first.abort();
  await first;
});
