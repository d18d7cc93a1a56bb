import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OpenLog, StoredRecord } from "#lib/eventlog/log.ts";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { describeEventLog } from "../kit/eventlog-contract.ts";

describeEventLog("the SQLite log in memory", async () => {
  const log = await createSqliteLog({ file: ":memory:" });
  return { log, partitions: 1, [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
});

describeEventLog("the SQLite log in a file", async () => {
  const directory = await mkdtemp(join(tmpdir(), "millrace-contract-"));
  const log = await createSqliteLog({ file: join(directory, "log.db") });
  return {
    log,
    partitions: 1,
    async [Symbol.asyncDispose]() {
      await log[Symbol.asyncDispose]();
      await rm(directory, { recursive: true });
    },
  };
});

describe("the SQLite log between processes", () => {
  let directory: string;
  let file: string;
  let children: ChildProcessWithoutNullStreams[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "millrace-processes-"));
    file = join(directory, "log.db");
    children = [];
  });

  afterEach(async () => {
    await Promise.all(children.map(kill));
    await rm(directory, { recursive: true });
  });

  function startAppender(): Appender {
    const script = new URL("../kit/sqlite-appender.ts", import.meta.url);
    const child = spawn(process.execPath, [script.pathname, file, "t"]);
    children.push(child);
    return watchAppender(child);
  }

  it("kill -9 of the writer loses no acknowledged record and leaves no hole, again and again", async () => {
    const acknowledged = new Map<number, string>();
    for (let round = 1; round <= 3; round++) {
      const appender = startAppender();
      await appender.acknowledges(400);
      await kill(appender.child);
      for (const [offset, value] of await appender.everything()) {
        expect(acknowledged.has(offset)).toBe(false);
        acknowledged.set(offset, value);
      }
      const log = await createSqliteLog({ file });
      const stored = await readAll(log);
      await log[Symbol.asyncDispose]();
      expect(stored.map(({ offset }) => offset)).toEqual(stored.map((_, index) => index));
      for (const [offset, value] of acknowledged)
        expect(Buffer.from(stored[offset]?.value ?? []).toString()).toBe(value);
      expect(acknowledged.size).toBeGreaterThanOrEqual(round * 400);
    }
  });

  it("a second process follows the log while the first one writes", async () => {
    const appender = startAppender();
    await appender.acknowledges(1);
    const reader = await createSqliteLog({ file, readOnly: true });
    try {
      for (let from = 0; from < 1000; ) {
        const records = await reader.tail("t", 0, { from, maxRecords: 100, maxBytes: 1e6, maxWaitMs: 30_000 });
        expect(records[0]?.offset).toBe(from);
        from += records.length;
      }
      // Still writing: the reader is not in its way.
      await appender.acknowledges(appender.count() + 100);
    } finally {
      await reader[Symbol.asyncDispose]();
    }
  });

  it("a reader at the end is woken by another process's append", async () => {
    const writer = await createSqliteLog({ file });
    await writer.createTopics([{ topic: "t", partitions: 1 }]);
    const reader = await createSqliteLog({ file, readOnly: true });
    const waiting = reader.tail("t", 0, { from: 0, maxRecords: 1, maxBytes: 1e6, maxWaitMs: 30_000 });
    await writer.append("t", [{ key: Buffer.from("k"), value: Buffer.from("v") }]);
    expect(await waiting).toHaveLength(1);
    await reader[Symbol.asyncDispose]();
    await writer[Symbol.asyncDispose]();
  });

  it("the owner's death by kill -9 lets the next one in", async () => {
    const appender = startAppender();
    await appender.acknowledges(1);
    await expect(createSqliteLog({ file })).rejects.toThrow("in use by another process");
    await kill(appender.child);
    const log = await createSqliteLog({ file });
    await log.check();
    await log[Symbol.asyncDispose]();
  });
});

interface Appender {
  child: ChildProcessWithoutNullStreams;
  count(): number;
  acknowledges(count: number): Promise<void>;
  /** Offset to value, once the process is gone and its output is read to the end. */
  everything(): Promise<Map<number, string>>;
}

function watchAppender(child: ChildProcessWithoutNullStreams): Appender {
  const acknowledged = new Map<number, string>();
  const lines = createInterface({ input: child.stdout });
  const ended = once(lines, "close");
  let complaint = "";
  child.stderr.on("data", (chunk) => {
    complaint += chunk;
  });
  lines.on("line", (line) => {
    // The last line may be torn by the kill; it was not read as an acknowledgement then.
    const match = /^(\d+) (\d+\/\d+\/\d+)$/.exec(line);
    if (match?.[1] && match[2]) acknowledged.set(Number(match[1]), match[2]);
    child.emit("acknowledged");
  });
  return {
    child,
    count: () => acknowledged.size,
    async acknowledges(count) {
      const gone = ended.then(() => Promise.reject(new Error(`the appender ended early: ${complaint}`)));
      while (acknowledged.size < count) await Promise.race([once(child, "acknowledged"), gone]);
      gone.catch(() => undefined);
    },
    async everything() {
      await ended;
      return acknowledged;
    },
  };
}

async function kill(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

async function readAll(log: OpenLog): Promise<StoredRecord[]> {
  const [bounds] = await log.bounds("t");
  const records: StoredRecord[] = [];
  while (records.length < (bounds?.end ?? 0)) {
    const options = { from: records.length, maxRecords: 10_000, maxBytes: 8e6, maxWaitMs: 0 };
    records.push(...(await log.tail("t", 0, options)));
  }
  return records;
}
