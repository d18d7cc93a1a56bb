// What is on the disk before what: names of files too are lost in a power cut until their directory is synced.
import type * as fs from "node:fs";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { append, closeSegment, createSegment, markBegun, syncSegment } from "./spool-segments.ts";

const calls = vi.hoisted(() => [] as string[]);

vi.mock("node:fs", async (original) => {
  const real = await original<typeof fs>();
  const kindOf = (fd: number) => (real.fstatSync(fd).isDirectory() ? "directory" : "file");
  return {
    ...real,
    renameSync: (...args: Parameters<typeof fs.renameSync>) => {
      calls.push("rename");
      real.renameSync(...args);
    },
    fsyncSync: (fd: number) => {
      calls.push(`sync ${kindOf(fd)}`);
      real.fsyncSync(fd);
    },
    fsync: (fd: number, done: fs.NoParamCallback) => {
      calls.push(`sync ${kindOf(fd)}`);
      real.fsync(fd, done);
    },
    fdatasync: (fd: number, done: fs.NoParamCallback) => {
      calls.push(`sync ${kindOf(fd)}`);
      real.fdatasync(fd, done);
    },
  };
});

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "millrace-segments-"));
  calls.length = 0;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function create() {
  const segment = createSegment(join(dir, "0000000001.events"));
  append(segment, new Uint8Array(10));
  return segment;
}
const synced = (segment: ReturnType<typeof create>) =>
  new Promise<void>((resolve, reject) => syncSegment(segment, (error) => (error ? reject(error) : resolve())));

it("a new file is synced with its directory, and then without", async () => {
  const segment = create();
  await synced(segment);
  append(segment, new Uint8Array(10));
  await synced(segment);
  expect(calls).toEqual(["sync file", "sync directory", "sync file"]);
  closeSegment(segment);
});

it("the new name of a file whose events are handed out is on the disk before they are", () => {
  const segment = create();
  markBegun(segment);
  expect(calls).toEqual(["rename", "sync directory"]);
  expect(readdirSync(dir)).toEqual(["0000000001.begun"]);
  markBegun(segment);
  expect(calls).toHaveLength(2);
  closeSegment(segment);
});
