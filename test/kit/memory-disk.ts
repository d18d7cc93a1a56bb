// Directories of tests in memory, where that is large enough: each commit of SQLite and each insert of ClickHouse waits
// for the disk many times, at milliseconds each, and no test takes the machine's power away.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { freemem } from "node:os";
import { join } from "node:path";

const PLACE = "/dev/shm";
const NAME = /^millrace-tests-(\d+)$/;
const TMPFS = 0x01021994;
/** What one run has at a time is about 2 GB, most of it an installed package. */
const FREE_BYTES_MIN = 8 * 1024 ** 3;

/** For this process and those it starts, until it ends. A TMPDIR that is set stays, and with KEEP_DATA all are on disk. */
export function keepDataInMemory(): void {
  if (process.env.TMPDIR || process.env.KEEP_DATA === "true" || !hasRoom()) return;
  for (const name of readdirSync(PLACE)) {
    const pid = Number(NAME.exec(name)?.[1]);
    if (pid && !isAlive(pid)) removeLeft(join(PLACE, name));
  }
  const directory = join(PLACE, `millrace-tests-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  process.env.TMPDIR = directory;
  process.once("exit", () => remove(directory));
}

function hasRoom(): boolean {
  try {
    const { type, bavail, bsize } = statfsSync(PLACE);
    return type === TMPFS && bavail * bsize > FREE_BYTES_MIN && freemem() > FREE_BYTES_MIN;
  } catch {
    return false; // There is no such place.
  }
}

/** Of a run that was killed, perhaps while a test had a disk of its own mounted in it. What cannot go costs memory only. */
function removeLeft(directory: string): void {
  for (const line of readFileSync("/proc/mounts", "utf8").split("\n")) {
    const [, mountPoint = ""] = line.split(" ");
    if (mountPoint.startsWith(`${directory}/`)) spawnSync("umount", ["--lazy", mountPoint]);
  }
  try {
    remove(directory);
  } catch (error) {
    process.stderr.write(`${directory} of a killed test run cannot be removed: ${String(error)}\n`);
  }
}

function remove(directory: string): void {
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
